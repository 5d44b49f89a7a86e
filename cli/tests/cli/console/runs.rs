//! Runs: their responses, their order, and kills.

use super::*;
use crate::support::assert_report;

#[test]
fn runs_programs() {
    let mut console = Console::start();
    let mut ok = console.ok(json!({
        "id": 1, "op": "run", "args": ["/bin/echo", "hi"], "env": ["PATH=/usr/bin:/bin"], "stdin": "…",
        "capture_bytes": 65536, "limits": {},
    }));
    assert_report(&ok, &json!({"exited": 0}));
    let report = ["usage", "sources", "evidence", "limits", "protections"];
    assert!(report.iter().all(|part| ok.as_object_mut().unwrap().remove(*part).is_some()), "{ok}");
    let expected = json!({
        "verdict": "ok", "cause": "exit", "status": {"exited": 0}, "stdout": "hi\n", "stdout_truncated": false, "stderr": "", "stderr_truncated": false,
    });
    assert_eq!(ok, expected);

    let ok = console.ok(sh(1, "echo out; echo err >&2; exit 3"));
    assert_eq!(
        (&ok["stdout"], &ok["stderr"], &ok["status"]),
        (&json!("out\n"), &json!("err\n"), &json!({"exited": 3}))
    );
    assert_report(&console.ok(sh(1, "kill -9 $$")), &killed());
    assert_eq!(console.ok(with(sh(1, "cat"), json!({"stdin": "né\0"})))["stdout"], "né\0");
    assert_eq!(console.stdout_of("cat"), "", "standard input is empty unless told otherwise");
    let env = json!({"id": 1, "op": "run", "args": ["/usr/bin/env"]});
    assert_eq!(console.ok(env.clone())["stdout"], "PATH=/usr/local/bin:/usr/bin:/bin\nHOME=/w\n");
    assert_eq!(console.ok(with(env, json!({"env": ["A=1", "B=x=y"]})))["stdout"], "A=1\nB=x=y\nHOME=/w\n");
    console.end();
    assert_eq!(console.lines.iter().count(), 0, "one response to each request");
}

#[test]
fn holds_the_limits_asked_for() {
    let mut console = Console::start();
    let run = |args: Value, limits: Value| json!({"id": 1, "op": "run", "args": args, "limits": limits});
    let ok = console.ok(run(json!(["sleep", "9"]), json!({"wall_time_ms": 100})));
    assert_eq!((&ok["verdict"], &ok["cause"]), (&json!("wall_time"), &json!({"limit": "wall_time"})));
    let all = json!({"cpu_time_ms": 1000, "wall_time_ms": 2000, "memory_bytes": 67108864, "processes": 32,
        "stack_bytes": 8 << 20, "file_size_bytes": 1 << 20, "open_files": 64, "output_bytes": 4, "weaker": true});
    let ok = console.ok(run(json!(["echo", "hi"]), all.clone()));
    assert_eq!((&ok["verdict"], &ok["stdout"]), (&json!("ok"), &json!("hi\n")), "{ok}");
    assert_eq!(ok["limits"].as_array().unwrap().len(), 8, "{ok}");
    let ok = console.ok(run(json!(["echo", "hello"]), all));
    assert_eq!(
        (&ok["verdict"], &ok["stdout"], &ok["stdout_truncated"]),
        (&json!("output"), &json!("hell"), &json!(true))
    );
    console.fails(run(json!(["true"]), json!({"processes": 0})), "invalid_input", Some("check_arguments"), None);
    console.end();
}

#[test]
fn says_why_a_run_could_not_start() {
    let mut console = Console::start();
    let run = |args: Value| json!({"id": 1, "op": "run", "args": args});
    console.fails(run(json!(["no-such-program"])), "exec", Some("exec"), Some(2));
    console.fails(run(json!(["/etc"])), "exec", Some("exec"), Some(13));
    console.fails(run(json!([])), "invalid_input", None, None);
    console.fails(run(json!(["a\0b"])), "invalid_input", Some("check_arguments"), None);
    console.fails(with(run(json!(["true"])), json!({"env": ["novalue"]})), "invalid_input", None, None);
    console.fails(with(run(json!(["true"])), json!({"env": ["=x"]})), "invalid_input", Some("check_arguments"), None);
    console.fails(with(run(json!(["true"])), json!({"limits": {"wall_ms": 1}})), "invalid_input", None, None);
    assert_eq!(console.stdout_of("echo still here"), "still here\n");
    console.end();
}

#[test]
fn keeps_what_was_asked_for_of_each_stream() {
    let mut console = Console::start();
    let both = |capture: Value| with(sh(1, "printf 12345; printf abc >&2"), capture);
    let ok = console.ok(both(json!({"capture_bytes": 3})));
    assert_eq!((&ok["stdout"], &ok["stdout_truncated"]), (&json!("123"), &json!(true)));
    assert_eq!((&ok["stderr"], &ok["stderr_truncated"]), (&json!("abc"), &json!(false)));
    let ok = console.ok(both(json!({"capture_bytes": 0})));
    assert_eq!((&ok["stdout"], &ok["stdout_truncated"], &ok["stderr"]), (&json!(""), &json!(true), &json!("")));

    // A program never blocks on output that is not kept, even if it is more than a pipe holds.
    let ok = console.ok(sh(1, "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2"));
    assert_eq!(ok["stdout"], "x".repeat(64 << 10));
    assert_eq!(
        (&ok["stdout_truncated"], &ok["stderr"], &ok["status"]["exited"]),
        (&json!(true), &json!("end\n"), &json!(0))
    );
    console.end();
}

#[test]
fn gives_what_is_not_text_in_base64() {
    let mut console = Console::start();
    let ok = console.ok(sh(1, r"printf '\377\376'; printf 'text' >&2"));
    assert_eq!((&ok["stdout_base64"], &ok["stderr"]), (&json!("//4="), &json!("text")));
    assert!(ok.get("stdout").is_none() && ok.get("stderr_base64").is_none(), "{ok}");
    let cut = console.ok(with(sh(1, "printf 'é'; printf '\\200' >&2"), json!({"capture_bytes": 1})));
    assert_eq!((&cut["stdout_base64"], &cut["stdout_truncated"]), (&json!("ww=="), &json!(true)));
    assert_eq!((&cut["stderr_base64"], &cut["stderr_truncated"]), (&json!("gA=="), &json!(false)));
    console.end();
}

#[test]
fn keeps_the_order_of_runs_and_resets() {
    let mut console = Console::start();
    // One write has all requests, and the console reads them before the first run is over.
    let mut requests = vec![sh("holds", "until [ -e go ]; do sleep 0.01; done")];
    requests.extend((0..300).map(|n| sh(n, &format!("echo {n} >> log"))));
    requests.extend([
        sh("log", "cat log"),
        json!({"id": "reset", "op": "reset"}),
        sh("after", "ls; touch new"),
        json!({"id": "again", "op": "reset"}),
        sh("last", "ls"),
    ]);
    console.send_line(requests.iter().map(Value::to_string).collect::<Vec<_>>().join("\n").as_bytes());
    console.ok(json!({"id": "go", "op": "write", "path": "go", "data": ""}));
    let expected: String = (0..300).map(|n| format!("{n}\n")).collect();
    assert_eq!(console.ok_of("log")["stdout"], expected);
    assert_eq!(console.ok_of("reset"), json!({}));
    assert_eq!(console.ok_of("after")["stdout"], "");
    assert_eq!(console.ok_of("again"), json!({}));
    assert_eq!(console.ok_of("last")["stdout"], "");
    console.end();
}

#[test]
fn serves_at_once_what_does_not_wait_for_a_run() {
    let mut console = Console::start_with(&["--kill-at-eof"]);
    console.send(&sleep("a"));
    console.send(&with(sleep("b"), json!({"container": "second"})));
    console.sleeping(2);
    assert_eq!(console.ok(json!({"id": 1, "op": "ping"})), json!({}));
    console.ok(json!({"id": 2, "op": "write", "path": "file", "data": "x"}));
    assert_eq!(console.ok(json!({"id": 3, "op": "read", "path": "file", "limit_bytes": 1})), json!({"data": "x"}));
    console.ok(json!({"id": 6, "op": "symlink", "target": "nowhere", "path": "link"}));
    let again = json!({"id": 6, "op": "symlink", "target": "x", "path": "link"});
    console.fails(again, "file", Some("make_symlink"), Some(nix::errno::Errno::EEXIST as i32));
    console.ok(json!({"id": 6, "op": "delete", "path": "link"}));
    console.ok(json!({"id": 4, "op": "delete", "path": "file"}));
    let third = with(sh(5, "echo third"), json!({"container": "third"}));
    assert_eq!(console.ok(third)["stdout"], "third\n");
    assert!(console.responses.is_empty(), "neither sleeper has ended");
    console.end();
    assert_eq!((&console.ok_of("a")["status"], &console.ok_of("b")["status"]), (&killed(), &killed()));
}

#[test]
fn kills_runs_by_their_ids() {
    let mut console = Console::start();
    let kill = |run: Value| json!({"id": "kill", "op": "kill", "run": run});
    console.send(&with(sleep(json!(["run", 1])), json!({"args": ["sh", "-c", "echo begun; sleep 4000"]})));
    console.sleeping(1);
    console.send(&sh("waits", "touch made"));
    console.send(&sh("goes on", "ls"));

    console.fails(kill(json!("unknown")), "invalid_input", None, None);
    assert_eq!(console.ok(kill(json!("waits"))), json!({}));
    let error = console.error_of("waits");
    assert_eq!((&error["kind"], &error["step"], &error["errno"]), (&json!("killed"), &Value::Null, &Value::Null));
    assert!(console.responses.is_empty(), "the run before it goes on");

    assert_eq!(console.ok(kill(json!(["run", 1]))), json!({}));
    let ok = console.ok_of(json!(["run", 1]));
    assert_eq!((&ok["status"], &ok["stdout"]), (&killed(), &json!("begun\n")));
    assert_eq!(console.ok_of("goes on")["stdout"], "", "what was killed while it waited has never started");
    console.fails(kill(json!("goes on")), "invalid_input", None, None);
    console.end();
}

#[test]
fn kills_all_runs_of_an_id_or_those_of_one_container() {
    let mut console = Console::start();
    for container in ["a", "b", "c"] {
        console.send(&with(sleep("same"), json!({"container": container})));
    }
    console.sleeping(3);
    console.ok(json!({"id": 1, "op": "kill", "run": "same", "container": "b"}));
    assert_eq!(console.ok_of("same")["status"], killed());
    console.sleeping(2);
    console.ok(json!({"id": 2, "op": "kill", "run": "same"}));
    assert_eq!(console.ok_of("same")["status"], killed());
    assert_eq!(console.ok_of("same")["status"], killed());
    console.end();
}

#[test]
fn runs_a_program_beside_another_one() {
    let mut console = Console::start();
    let beside = |request: Value| with(request, json!({"beside": true}));
    console.ok(json!({"id": 0, "op": "ping"}));
    console.fails(beside(sh(1, "true")), "not_running", Some("find_run"), None);
    console.send(&sleep("main"));
    console.sleeping(1);
    console.send(&sh("waits", "echo waited"));

    let ok = console.ok(beside(sh(2, "echo $$; touch made; exit 3")));
    assert_eq!((&ok["stdout"], &ok["status"]), (&json!("2\n"), &json!({"exited": 3})));
    let late = console.ok(with(beside(sh(3, "sleep 4000")), json!({"limits": {"wall_time_ms": 100}})));
    assert_eq!(late["verdict"], "wall_time");
    console.send(&beside(sleep("killed")));
    console.send(&beside(sleep("left")));
    console.sleeping(3);
    console.ok(json!({"id": 4, "op": "kill", "run": "killed"}));
    let ok = console.ok_of("killed");
    assert_eq!((&ok["status"], &ok["cause"]), (&killed(), &json!("request")));
    assert!(console.responses.is_empty(), "the others go on");

    console.ok(json!({"id": 5, "op": "kill", "run": "main"}));
    assert_eq!(console.ok_of("main")["cause"], "request");
    assert_eq!(console.ok_of("left")["cause"], "main_ended");
    assert_eq!(console.ok_of("waits")["stdout"], "waited\n");
    assert_eq!(console.stdout_of("ls"), "made\n");
    console.end();
}
