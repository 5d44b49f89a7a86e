//! The files of a container.

use super::*;

#[test]
fn writes_reads_and_deletes_files() {
    let mut console = Console::start();
    let write = |data: Value| with(json!({"id": 1, "op": "write", "path": "dir/file"}), data);
    let read = json!({"id": 1, "op": "read", "path": "/w/dir/file", "limit_bytes": 4});
    assert_eq!(console.ok(write(json!({"data": "né\n"}))), json!({}));
    assert_eq!(console.stdout_of("cat dir/file; stat -c %a dir/file"), "né\n644\n");
    assert_eq!(console.ok(read.clone()), json!({"data": "né\n"}));
    console.ok(write(json!({"data_base64": "/wA=", "mode": 0o755})));
    assert_eq!(console.ok(read.clone()), json!({"data_base64": "/wA="}));
    console.ok(json!({"id": 1, "op": "write", "path": "script", "data": "#!/bin/sh\necho ran", "mode": 0o755}));
    assert_eq!(console.stdout_of("./script; stat -c %a script"), "ran\n755\n");
    assert_eq!(console.stdout_of("[ -O script ] && [ -O dir ] && echo mine"), "mine\n");

    console.ok(write(json!({"data": "12345"})));
    console.fails(read.clone(), "file", Some("read"), Some(nix::libc::EFBIG));
    assert_eq!(console.ok(json!({"id": 1, "op": "read", "path": "dir/file"})), json!({"data": "12345"}));

    console.fails(write(json!({})), "invalid_input", None, None);
    console.fails(write(json!({"data": "", "data_base64": ""})), "invalid_input", None, None);
    console.fails(write(json!({"data_base64": "!"})), "invalid_input", None, None);

    let delete = |path: &str| json!({"id": 1, "op": "delete", "path": path});
    console.fails(delete("dir"), "file", Some("delete"), Some(nix::libc::ENOTEMPTY));
    assert_eq!(console.ok(delete("dir/file")), json!({}));
    assert_eq!(console.ok(delete("dir")), json!({}));
    console.fails(delete("dir"), "file", Some("delete"), Some(nix::libc::ENOENT));
    console.fails(read, "file", Some("open"), Some(nix::libc::ENOENT));
    console.end();
}

#[test]
fn writes_and_reads_nothing_but_regular_files() {
    let mut console = Console::start();
    console.stdout_of("mkdir dir; echo kept > target; ln -s target link; ln -s nowhere dangling; mkfifo fifo");
    for path in ["dir", "link", "dangling", "fifo", "/dev/null", "dir/../link"] {
        for request in [json!({"op": "write", "data": "x"}), json!({"op": "read", "limit_bytes": 100})] {
            console.send(&with(request.clone(), json!({"id": path, "path": path})));
            let error = console.error_of(path);
            assert_eq!(error["kind"], "file", "{request} {path}: {error}");
            assert!(error["errno"].is_i64(), "{request} {path}: {error}");
        }
    }
    assert_eq!(console.stdout_of("cat target; ls"), "kept\ndangling\ndir\nfifo\nlink\ntarget\n");
    console.end();
}
