//! Builds and ends of containers, and the end of the console.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::processes::{alive, descendants, eventually};
use crate::support::{open_dir, stderr, stdout};

#[test]
fn builds_with_binds_and_a_size_of_tmpfs() {
    let dir = open_dir();
    let path = dir.path().to_str().unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join("file"), "shown").unwrap();
    let mut console = Console::start();
    let build = |fields: Value| with(json!({"id": 1, "op": "build"}), fields);
    let binds = json!([path, format!("{path}/file:/there"), format!("{path}:/writable:rw")]);
    assert_eq!(console.ok(build(json!({"binds": binds, "tmpfs_bytes": 1 << 20}))), json!({}));
    assert_eq!(console.stdout_of(&format!("cat {path}/file /there; echo written > /writable/made")), "shownshown");
    assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "written\n");
    assert_eq!(console.stdout_of("stat -f -c '%b %S' /w | (read n size; echo $((n * size)))"), "1048576\n");
    let full = json!({"id": 1, "op": "write", "path": "big", "data": "x".repeat(2 << 20)});
    console.fails(full, "file", Some("write"), Some(nix::libc::ENOSPC));

    console.fails(build(json!({})), "invalid_input", None, None);
    assert_eq!(console.ok(build(json!({"container": "other"}))), json!({}));
    console.fails(build(json!({"container": "x", "binds": ["a:b:c"]})), "invalid_input", Some("check_arguments"), None);
    console.end();
}

#[test]
fn builds_again_after_a_build_that_failed() {
    let mut console = Console::start();
    let missing = json!({"id": 1, "op": "build", "binds": ["/no/such/file"]});
    console.fails(missing.clone(), "build", Some("open_bind_source"), Some(nix::libc::ENOENT));
    console.fails(missing, "build", Some("open_bind_source"), Some(nix::libc::ENOENT));
    assert_eq!(console.stdout_of("echo built"), "built\n");
    console.end();
}

#[test]
fn shares_a_build_and_destroys() {
    let mut console = Console::start();
    for id in 0..50 {
        console.send(&json!({"id": id, "op": "ping"}));
    }
    for id in 0..50 {
        assert_eq!(console.ok_of(id), json!({}));
    }
    let init = descendants(console.child.id());
    assert_eq!(init.len(), 1, "one container: {init:?}");

    console.stdout_of("touch made");
    console.send(&sleep("runs"));
    console.sleeping(1);
    console.send(&sh("waits", "true"));
    assert_eq!(console.ok(json!({"id": "destroy", "op": "destroy"})), json!({}));
    assert_eq!(alive(&init), []);
    assert_eq!(console.error_of("runs")["kind"], "destroyed");
    assert_eq!(console.error_of("waits")["kind"], "destroyed");
    assert_eq!(console.ok(json!({"id": "destroy", "op": "destroy"})), json!({}), "destroyed already");
    assert_eq!(console.stdout_of("ls"), "", "a new one");

    // A request before a `destroy` has the old container, a request after it a new one.
    console.stdout_of("touch made");
    console.send(&json!({"id": "destroy", "op": "destroy"}));
    console.send(&sh("after", "ls"));
    assert_eq!(console.ok_of("after")["stdout"], "");
    assert_eq!(console.ok_of("destroy"), json!({}));
    console.end();
}

#[test]
fn tells_of_a_container_that_died_until_it_is_destroyed() {
    let mut console = Console::start();
    console.ok(json!({"id": 1, "op": "ping"}));
    let init = descendants(console.child.id()).pop_first().unwrap();
    kill(Pid::from_raw(init.pid as i32), Signal::SIGKILL).unwrap();
    eventually("the death is known", || {
        console.send(&json!({"id": 2, "op": "ping"}));
        console.response(2)["error"]["kind"] == "lost"
    });
    console.fails(sh(3, "true"), "lost", Some("serve"), None);
    console.ok(json!({"id": 4, "op": "destroy"}));
    assert_eq!(console.stdout_of("echo new"), "new\n");
    console.end();
}

#[test]
fn answers_every_request_of_a_pipe_and_exits() {
    // `printf` closes its end long before the runs are over, and before the container is built.
    let script = r#"printf '%s\n' "$@" | "$0" console"#;
    let requests = [sh("slow", "sleep 0.5; echo slow"), sh("queued", "cat /w/*"), json!({"id": "p", "op": "ping"})];
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_cellblock")]).args(requests.each_ref().map(Value::to_string));
    let output = shell.output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    let responses: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ok_of = |id: &str| &responses.iter().find(|response| response["id"] == id).unwrap()["ok"];
    assert_eq!(responses.len(), 3, "{responses:?}");
    assert_eq!((&ok_of("slow")["stdout"], &ok_of("p")), (&json!("slow\n"), &&json!({})));
    assert_eq!(ok_of("queued")["status"], json!({"exited": 1}));
}

#[test]
fn a_last_request_without_a_newline_is_answered() {
    let mut console = Console::start();
    console.stdin.as_ref().unwrap().write_all(sh("last", "echo last").to_string().as_bytes()).unwrap();
    console.end();
    assert_eq!(console.ok_of("last")["stdout"], "last\n");
}

#[test]
fn leaves_nothing_behind_when_its_output_is_closed_after_the_end_of_input() {
    let mut child = cellblock("console").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let second = with(sh(2, "sleep 2"), json!({"container": "second"}));
    child.stdin.take().unwrap().write_all(format!("{}\n{second}\n", sleep(1)).as_bytes()).unwrap();
    drop(child.stdout.take());
    let processes = running(child.id(), 2, "sleep");
    assert_eq!(wait(&mut child).code(), Some(1), "once the second run has ended");
    assert_eq!(alive(&processes), []);
}

#[test]
fn kills_what_runs_at_the_end_of_input_if_told_to() {
    let mut console = Console::start_with(&["--kill-at-eof"]);
    console.send(&sh("runs", "trap '' TERM; setsid sleep 4000 & sleep 4000"));
    console.send(&with(sleep("elsewhere"), json!({"container": "second"})));
    console.send(&sh("waits", "true"));
    let processes = console.sleeping(3);
    console.end();
    assert_eq!(alive(&processes), []);
    assert_eq!(console.ok_of("runs")["status"], killed());
    assert_eq!(console.ok_of("elsewhere")["status"], killed());
    assert_eq!(console.error_of("waits")["kind"], "killed");
}

#[test]
fn leaves_nothing_behind_when_it_is_killed() {
    let mut console = Console::start();
    console.send(&sleep(1));
    let processes = console.sleeping(1);
    console.child.kill().unwrap();
    assert_eq!(wait(&mut console.child).signal(), Some(9));
    eventually("all are dead", || alive(&processes).is_empty());
}

#[test]
fn ends_when_its_output_is_closed() {
    let mut child =
        cellblock("console").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{}\n{}\n", sleep(1), json!({"id": 2, "op": "ping"})).as_bytes()).unwrap();
    assert_eq!(wait(&mut child).code(), Some(1), "while its input is still open");
}
