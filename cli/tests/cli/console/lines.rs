//! Lines, valid and not.

use super::*;

#[test]
fn a_response_repeats_the_id() {
    let mut console = Console::start();
    for id in [json!(null), json!("text"), json!(-1.5), json!([1, {"a": null}]), json!({}), json!(u64::MAX)] {
        assert_eq!(console.ok(json!({"id": id, "op": "ping"})), json!({}));
    }
    console.end();
}

#[test]
fn goes_on_after_a_line_that_is_no_request() {
    let mut console = Console::start();
    let lines: [&[u8]; 12] = [
        b"garbage",
        b"",
        b"\xff\xfe",
        b"42",
        b"{\"id\":1,\"op\":\"ping\"",
        b"{\"id\":1}",
        b"{\"op\":\"ping\"}",
        b"{\"id\":1,\"op\":\"dance\"}",
        b"{\"id\":1,\"op\":\"ping\",\"extra\":1}",
        b"{\"id\":1,\"op\":\"run\",\"args\":[\"true\"],\"extra\":1}",
        b"{\"id\":1,\"op\":\"run\",\"args\":\"true\"}",
        b"{\"id\":1,\"op\":\"write\",\"path\":\"x\",\"data\":\"\",\"mode\":-1}",
    ];
    for line in lines {
        console.send_line(line);
        assert_eq!(console.error_of(Value::Null)["kind"], "invalid_input", "{}", String::from_utf8_lossy(line));
    }
    console.send_line(&b"[".repeat(100_000));
    console.error_of(Value::Null);
    console.send_line(&b"x".repeat((64 << 20) + 1));
    let message = console.error_of(Value::Null)["message"].to_string();
    assert!(message.contains("67108864 bytes"), "{message}");
    assert_eq!(console.ok(json!({"id": 1, "op": "ping"})), json!({}));

    // The last line may lack its newline.
    console.stdin.as_ref().unwrap().write_all(b"{\"id\":\"last\",\"op\":\"ping\"}").unwrap();
    console.end();
    assert_eq!(console.ok_of("last"), json!({}));
}
