//! `cellblock run`: one program, and its exit code.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::processes::{alive, running, wait};
use crate::support::{assert_report, cellblock, open_dir, stderr, stdout};

fn run(args: &[&str]) -> Output {
    cellblock("run").args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn it_exits_as_the_program_did_and_shares_its_streams() {
    let output = run(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(7), "out\n", "err\n"));
    assert_eq!(run(&["--", "sh", "-c", "kill -TERM $$"]).status.code(), Some(128 + 15));
    assert_eq!(run(&["--", "true"]).status.code(), Some(0));
}

#[test]
fn the_program_may_follow_the_options_without_dashes() {
    let output = run(&["--env", "A=1", "/bin/sh", "-c", "echo $A $0 $*; exit 4", "--json", "--", "--help"]);
    assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(4), "1 --json -- --help\n", ""));
}

#[test]
fn no_order_of_the_options_needs_dashes() {
    let options: [&[&str]; 9] = [
        &["--json"],
        &["--weaker"],
        &["--stdin", "/dev/null"],
        &["--stdin=/dev/null"],
        &["--env", "A=1"],
        &["--bind", "/usr"],
        &["--wall-time", "50s"],
        &["--memory=512MiB"],
        &["--output", "1MiB"],
    ];
    let program = ["/bin/sh", "-c", "echo $0 $*", "--json", "-x", "--", "--env"];
    for rotation in 0..options.len() {
        // No option is given twice: the other form of `--stdin` is left out.
        let mut order: Vec<_> = options.iter().cycle().skip(rotation).take(options.len()).collect();
        order.retain(|option| option[0] != if rotation % 2 == 0 { "--stdin" } else { "--stdin=/dev/null" });
        let args: Vec<&str> = order.into_iter().copied().flatten().copied().chain(program).collect();
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output).lines().next(), Some("--json -x -- --env"), "{args:?}");
        assert!(stdout(&output).lines().nth(1).unwrap().starts_with('{'), "the report: {args:?}");
    }
}

#[test]
fn standard_input_is_inherited_or_a_file() {
    let dir = open_dir();
    let file = dir.path().join("input");
    fs::write(&file, "from a file\n").unwrap();
    let output = run(&["--stdin", file.to_str().unwrap(), "--", "cat"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "from a file\n"));

    let mut child = cellblock("run").args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "typed\n");

    let output = run(&["--stdin", dir.path().join("missing").to_str().unwrap(), "--", "cat"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("missing: No such file"), "{}", stderr(&output));
}

#[test]
fn the_environment_is_path_and_what_the_options_add() {
    let variables = |args: &[&str]| {
        let output = run(&[args, &["--", "/usr/bin/env"]].concat());
        stdout(&output).lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(variables(&[]), BTreeSet::from(["HOME=/w", "PATH=/usr/local/bin:/usr/bin:/bin"].map(String::from)));
    let expected = ["A=1=2", "B=", "HOME=/w", "PATH=/bin"].map(String::from).into();
    assert_eq!(variables(&["--env", "A=1=2", "--env", "B=", "--env", "PATH=/bin"]), expected);
}

#[test]
fn a_bind_is_read_only_unless_it_says_rw() {
    let dir = open_dir();
    let path = dir.path().to_str().unwrap();
    // A container that root builds has ids that own no file on the host.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join("file"), "shown\n").unwrap();

    let script = format!("cat {path}/file; echo x > {path}/made");
    let output = run(&["--bind", path, "--", "sh", "-c", &script]);
    assert_eq!(stdout(&output), "shown\n");
    assert!(stderr(&output).contains("Read-only file system"), "{}", stderr(&output));

    let output = run(&["--bind", &format!("{path}:/there"), "--", "sh", "-c", "cat /there/file; echo x > /there/made"]);
    assert_eq!(stdout(&output), "shown\n");
    assert!(stderr(&output).contains("Read-only file system"), "{}", stderr(&output));

    let output = run(&["--bind", &format!("{path}:/there:rw"), "--", "sh", "-c", "echo written > /there/made"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "written\n");
}

#[test]
fn the_exit_code_and_the_message_tell_what_failed() {
    let dir = open_dir();
    let text = dir.path().join("text");
    fs::write(&text, "no program").unwrap();
    let missing = dir.path().join("missing");
    let cases: [(&[&str], i32, &str); 10] = [
        (&["--", "no-such-program"], 127, "execute no-such-program: No such file"),
        (&["--", "/w/no/such/program"], 127, "--bind shows it more"),
        (&["--bind", &format!("{}:/text", text.display()), "--", "/text"], 126, "execute /text: Permission denied"),
        (&["--bind", missing.to_str().unwrap(), "--", "true"], 125, "open bind source"),
        (&["--bind", "a:b:c", "--", "true"], 2, "SRC:DST:rw"),
        (&["--bind", "/usr:b", "--", "true"], 2, "must be absolute"),
        (&["--env", "novalue", "--", "true"], 2, "K=V"),
        (&["--env", "=value", "--", "true"], 2, "K=V"),
        (&["--no-such-option", "--", "true"], 2, "--no-such-option"),
        (&[], 2, "required"),
    ];
    for (args, code, says) in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says) && output.stdout.is_empty(), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn the_report_is_a_line_of_json() {
    let output = run(&["--json", "--", "sh", "-c", "echo first; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    let (first, report) = stdout(&output).split_once('\n').unwrap();
    assert_eq!((first, report.lines().count()), ("first", 1));
    assert_report(&serde_json::from_str(report).unwrap(), &json!({"exited": 3}));

    let output = run(&["--json", "--", "sh", "-c", "kill -KILL $$"]);
    let expected = json!({"signaled": {"signal": 9, "core_dumped": false}});
    assert_report(&serde_json::from_slice(&output.stdout).unwrap(), &expected);
}

#[test]
fn the_limits_hold() {
    let verdict = |options: &[&str], program: &[&str]| {
        let output = run(&[options, &["--json", "--weaker", "--"], program].concat());
        let line = stdout(&output).lines().last().unwrap().to_owned();
        serde_json::from_str::<Value>(&line).unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    let spin = ["/bin/sh", "-c", "while :; do :; done"];
    assert_eq!(verdict(&["--cpu-time", "200ms"], &spin), "cpu_time");
    assert_eq!(verdict(&["--wall-time", "200ms"], &["/bin/sleep", "9"]), "wall_time");
    assert_eq!(verdict(&["--output", "1kB"], &["/bin/sh", "-c", "yes"]), "output");
    assert_eq!(verdict(&["--file-size", "1MiB"], &["/bin/sh", "-c", "exec head -c 9M /dev/zero > f"]), "output");
    let all = ["--cpu-time", "1s", "--wall-time", "2s", "--memory", "64MiB", "--processes", "32", "--stack", "8MiB"];
    let more = ["--file-size", "16MiB", "--open-files", "64", "--output", "1MiB"];
    assert_eq!(verdict(&[&all[..], &more].concat(), &["/bin/sh", "-c", "echo hi"]), "ok");
    let output = run(&["--memory", "much", "--", "/bin/true"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("a size is a number"), "{}", stderr(&output));
    let output = run(&["--memory", "0", "--", "/bin/true"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("at least 2097152 bytes"),
        "{}",
        stderr(&output)
    );
}

/// Plays a user at a terminal: runs the command in its arguments on a new terminal, types, and
/// waits for what the terminal must show.
const TERMINAL_USER: &str = r#"
import fcntl, os, pty, struct, sys, termios
def resize(rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
ready, go = os.pipe()
pid, fd = pty.fork()
if pid == 0:
    os.read(ready, 1)
    before = termios.tcgetattr(0)
    code = os.spawnv(os.P_WAIT, sys.argv[1], sys.argv[1:])
    os._exit(code if termios.tcgetattr(0) == before else 99)
resize(33, 111)
os.write(go, b"x")
shown = b""
def until(text):
    global shown
    while text not in shown:
        shown += os.read(fd, 1000)
    shown = shown.split(text, 1)[1]
def types(line, *answers):
    os.write(fd, line)
    for answer in answers: until(answer)
until(b"$ ")
types(b"stty size\n", b"33 111\r\n", b"$ ")
types(b"echo is there >/dev/tty\n", b"\nis there\r\n", b"$ ")
types(b"cat\nhere\n", b"here\r\nhere\r\n")
types(b"\x03", b"$ ")
resize(20, 50)
types(b"until [ \"$(stty size)\" = '20 50' ]; do sleep 0.01; done; echo it fits\n", b"\nit fits\r\n", b"$ ")
types(b"cat\nthere\n", b"there\r\nthere\r\n")
types(b"\x1a", b"$ ")
types(b"jobs\n", b"Stopped", b"$ ")
types(b"fg\nagain\n", b"cat\r\n", b"again\r\n")
types(b"\x03", b"$ ")
os.write(fd, b"exit 7\n")
try:
    while os.read(fd, 1000): pass
except OSError: pass
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code)
"#;

#[test]
fn an_interactive_shell_has_a_working_terminal() {
    let mut user = Command::new("timeout");
    user.args(["20", "/usr/bin/python3", "-c", TERMINAL_USER]).args([env!("CARGO_BIN_EXE_cellblock"), "run"]);
    let output = user.args(["--tty", "--env", "PS1=$ ", "--", "/bin/sh", "-i"]).output().unwrap();
    assert_eq!((stdout(&output), stderr(&output)), ("7\n", ""));
    let output = run(&["--tty", "--", "/bin/true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("needs a terminal"), "{}", stderr(&output));
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let script = "trap '' TERM INT; setsid sleep 4000 & sleep 4000";
        let mut child = cellblock("run").args(["--", "sh", "-c", script]).spawn().unwrap();
        let processes = running(child.id(), 2, "sleep");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(wait(&mut child).code(), Some(128 + signal as i32));
        assert_eq!(alive(&processes), []);
    }
}
