//! Containers that are built with an image and with set-up.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

#[test]
fn a_reset_keeps_what_set_up_leaves() {
    let mut console = Console::start();
    let setup = json!(["/bin/sh", "-c", "mkdir d; echo made >d/f; command -v cat >d/path"]);
    console.ok(json!({"id": 1, "op": "build", "setup": setup}));
    for _ in 0..2 {
        assert_eq!(console.stdout_of("cat d/f d/path; echo x >d/f; touch new"), "made\n/usr/bin/cat\n");
        console.ok(json!({"id": 1, "op": "reset"}));
        assert_eq!(console.stdout_of("ls"), "d\n");
    }
    console.ok(json!({"id": 1, "op": "destroy"}));
    console.fails(json!({"id": 1, "op": "build", "setup": []}), "invalid_input", None, None);
    console.send(&json!({"id": 1, "op": "build", "setup": ["/bin/sh", "-c", "echo why; exit 3"]}));
    let error = console.error_of(1);
    assert_eq!((&error["kind"], &error["step"]), (&json!("build"), &json!("set_up")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("why"), "{error}");
    console.end();
}

#[test]
fn an_image_takes_the_place_of_the_hosts_programs() {
    const BUSYBOX: &str = "/bin/busybox";
    if !Path::new(BUSYBOX).exists() {
        eprintln!("skipped: this machine lacks a static busybox");
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(tree.path().join("bin")).unwrap();
    fs::copy(BUSYBOX, tree.path().join("bin/busybox")).unwrap();
    for name in ["sh", "ls", "cat"] {
        symlink("busybox", tree.path().join("bin").join(name)).unwrap();
    }
    let mut console = Console::start();
    console.ok(json!({"id": 1, "op": "build", "image": tree.path(), "setup": ["sh", "-c", "echo made >/made"]}));
    for _ in 0..2 {
        assert_eq!(console.stdout_of("ls /; cat /made; echo x >/made"), "bin\ndev\netc\nmade\nproc\ntmp\nw\nmade\n");
        console.ok(json!({"id": 1, "op": "reset"}));
    }
    let run = |args: Value| json!({"id": 1, "op": "run", "args": args});
    assert_eq!(console.ok(run(json!(["cat", "/made"])))["stdout"], "made\n", "found in the image's PATH");
    console.fails(run(json!(["python3"])), "exec", Some("exec"), Some(nix::libc::ENOENT));
    console.ok(json!({"id": 1, "op": "destroy"}));
    let missing = json!({"id": 1, "op": "build", "image": "/not/there"});
    console.fails(missing, "image", Some("find_image"), Some(nix::libc::ENOENT));
    console.end();
}
