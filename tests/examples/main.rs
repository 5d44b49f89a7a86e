//! The programs that come with the library, as a user or another program meets them: by their streams and exit codes.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};

use common::examples::{DEADLINE, Process, alive, descendants, eventually, example, running, stderr, stdout, wait};
use common::open_dir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn run(args: &[&str]) -> Output {
    example("run").args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn hello_prints_the_answer() {
    let output = example("hello").output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "42\n"), "{}", stderr(&output));
}

#[test]
fn run_exits_as_the_program_did_with_its_streams() {
    let output = run(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(7), "out\n", "err\n"));
    assert_eq!(run(&["--", "sh", "-c", "kill -TERM $$"]).status.code(), Some(128 + 15));
    assert_eq!(run(&["--", "true"]).status.code(), Some(0));
}

#[test]
fn run_reads_the_terminal_or_a_file() {
    let dir = open_dir();
    let file = dir.path().join("input");
    fs::write(&file, "from a file\n").unwrap();
    let output = run(&["--stdin", file.to_str().unwrap(), "--", "cat"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "from a file\n"));

    let mut child = example("run").args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "typed\n");

    let output = run(&["--stdin", dir.path().join("missing").to_str().unwrap(), "--", "cat"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("missing: No such file"), "{}", stderr(&output));
}

#[test]
fn run_gives_the_environment_asked_for() {
    let variables = |args: &[&str]| {
        let output = run(&[args, &["--", "/usr/bin/env"]].concat());
        stdout(&output).lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(variables(&[]), BTreeSet::from(["PATH=/usr/local/bin:/usr/bin:/bin".into()]));
    let expected = ["A=1=2", "B=", "PATH=/bin"].map(String::from).into();
    assert_eq!(variables(&["--env", "A=1=2", "--env", "B=", "--env", "PATH=/bin"]), expected);
}

#[test]
fn run_binds_read_only_unless_told_otherwise() {
    let dir = open_dir();
    let path = dir.path().to_str().unwrap();
    // A container of root's has ids of its own, which are nobody's outside.
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
fn run_tells_whose_fault_a_failure_was() {
    let dir = open_dir();
    let text = dir.path().join("text");
    fs::write(&text, "no program").unwrap();
    let missing = dir.path().join("missing");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--", "no-such-program"], 127, "execute no-such-program: No such file"),
        (&["--", "/w/no/such/program"], 127, "No such file"),
        (&["--bind", &format!("{}:/text", text.display()), "--", "/text"], 126, "execute /text: Permission denied"),
        (&["--bind", missing.to_str().unwrap(), "--", "true"], 125, "open bind source"),
        (&["--bind", "a:b:c", "--", "true"], 2, "SRC:DST:rw"),
        (&["--env", "novalue", "--", "true"], 2, "K=V"),
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
fn run_prints_the_report_as_a_line_of_json() {
    let output = run(&["--json", "--", "sh", "-c", "echo first; exit 3"]);
    assert_eq!(output.status.code(), Some(3));
    let (first, report) = stdout(&output).split_once('\n').unwrap();
    assert_eq!((first, report.lines().count()), ("first", 1));
    assert_report(&serde_json::from_str(report).unwrap(), &json!({"exited": 3}));

    let output = run(&["--json", "--", "sh", "-c", "kill -KILL $$"]);
    let expected = json!({"signaled": {"signal": 9, "core_dumped": false}});
    assert_report(&serde_json::from_slice(&output.stdout).unwrap(), &expected);
}

/// Somebody at a terminal: starts the program that is its arguments there, types, and looks at what is shown.
const SOMEBODY_AT_A_TERMINAL: &str = r#"
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
fn run_holds_the_limits_asked_for() {
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
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = run(&["--memory", "0", "--", "/bin/true"]);
    assert!(output.status.code() == Some(125) && stderr(&output).contains("no memory"), "{}", stderr(&output));
}

#[test]
fn console_holds_the_limits_asked_for() {
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
fn run_gives_a_shell_a_terminal_that_feels_like_one() {
    let mut somebody = Command::new("timeout");
    somebody.args(["20", "/usr/bin/python3", "-c", SOMEBODY_AT_A_TERMINAL]).arg(example("run").get_program());
    let output = somebody.args(["--tty", "--env", "PS1=$ ", "--", "/bin/sh", "-i"]).output().unwrap();
    assert_eq!((stdout(&output), stderr(&output)), ("7\n", ""));
    let output = run(&["--tty", "--", "/bin/true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("needs a terminal"), "{}", stderr(&output));
}

#[test]
fn run_leaves_nothing_behind_when_a_signal_ends_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let script = "trap '' TERM INT; setsid sleep 4000 & sleep 4000";
        let mut child = example("run").args(["--", "sh", "-c", script]).spawn().unwrap();
        let processes = running(child.id(), 2, "sleep");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(wait(&mut child).code(), Some(128 + signal as i32));
        assert_eq!(alive(&processes), []);
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn assert_report(report: &Value, status: &Value) {
    assert_eq!(report["status"], *status);
    let usage = &report["usage"];
    let figures = ["wall_us", "cpu_us", "user_us", "system_us", "memory_peak_bytes", "processes_peak", "set_up_us"];
    assert_eq!(keys(usage), figures.into(), "{report}");
    assert!(usage.as_object().unwrap().values().all(|figure| figure.is_u64() || figure.is_null()), "{report}");
}

/// A console, and what it has answered that nobody has asked for yet.
struct Console {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    answers: Vec<Value>,
}

impl Console {
    fn start() -> Self {
        let mut child = example("console").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self { stdin: child.stdin.take(), child, lines, answers: Vec::new() }
    }

    fn send(&mut self, request: &Value) {
        self.send_line(request.to_string().as_bytes());
    }

    fn send_line(&mut self, line: &[u8]) {
        self.stdin.as_ref().unwrap().write_all(&[line, b"\n"].concat()).unwrap();
    }

    /// The answer to the request with this id.
    fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        loop {
            if let Some(at) = self.answers.iter().position(|answer| answer["id"] == id) {
                return self.answers.remove(at);
            }
            let answer = self.lines.recv_timeout(DEADLINE).unwrap();
            let fields = keys(&answer);
            assert!(fields == ["id", "ok"].into() || fields == ["id", "error"].into(), "{answer}");
            self.answers.push(answer);
        }
    }

    fn ok_of(&mut self, id: impl Into<Value>) -> Value {
        let answer = self.answer(id);
        assert!(answer["error"].is_null(), "{answer}");
        answer["ok"].clone()
    }

    fn error_of(&mut self, id: impl Into<Value>) -> Value {
        let answer = self.answer(id);
        let error = &answer["error"];
        assert_eq!(keys(error), ["kind", "step", "errno", "message", "retryable"].into(), "{answer}");
        assert!(error["message"].is_string() && error["retryable"].is_boolean(), "{answer}");
        error.clone()
    }

    /// Sends a request, and gives what its success says.
    fn ok(&mut self, request: Value) -> Value {
        self.send(&request);
        self.ok_of(request["id"].clone())
    }

    /// Sends a request that must fail like this.
    fn fails(&mut self, request: Value, kind: &str, step: Option<&str>, errno: Option<i32>) {
        self.send(&request);
        let error = self.error_of(request["id"].clone());
        assert_eq!(
            (&error["kind"], &error["step"], &error["errno"]),
            (&json!(kind), &json!(step), &json!(errno)),
            "{request}: {error}"
        );
    }

    /// What a script prints, which must succeed.
    fn says(&mut self, script: &str) -> String {
        let ok = self.ok(sh("says", script));
        assert_eq!((&ok["status"], &ok["stderr"]), (&json!({"exited": 0}), &json!("")), "{script}: {ok}");
        ok["stdout"].as_str().unwrap().to_owned()
    }

    /// Waits until this many programs called `sleep` run.
    fn sleeping(&self, count: usize) -> BTreeSet<Process> {
        running(self.child.id(), count, "sleep")
    }

    /// Ends the input. The console must exit 0; what it has answered can still be looked at.
    fn end(&mut self) {
        drop(self.stdin.take());
        assert_eq!(wait(&mut self.child).code(), Some(0));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sh(id: impl Into<Value>, script: &str) -> Value {
    json!({"id": id.into(), "op": "run", "args": ["/bin/sh", "-c", script]})
}

fn sleep(id: impl Into<Value>) -> Value {
    json!({"id": id.into(), "op": "run", "args": ["sleep", "4000"]})
}

fn killed() -> Value {
    json!({"signaled": {"signal": 9, "core_dumped": false}})
}

/// A request with more fields.
fn with(mut request: Value, fields: Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(fields);
    request
}

#[test]
fn console_runs_programs() {
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
    assert_eq!(console.says("cat"), "", "standard input is empty unless told otherwise");
    let env = json!({"id": 1, "op": "run", "args": ["/usr/bin/env"]});
    assert_eq!(console.ok(env.clone())["stdout"], "PATH=/usr/local/bin:/usr/bin:/bin\n");
    assert_eq!(console.ok(with(env, json!({"env": ["A=1", "B=x=y"]})))["stdout"], "A=1\nB=x=y\n");
    console.end();
    assert_eq!(console.lines.iter().count(), 0, "one answer for each request");
}

#[test]
fn console_gives_ids_back_as_they_came() {
    let mut console = Console::start();
    for id in [json!(null), json!("text"), json!(-1.5), json!([1, {"a": null}]), json!({}), json!(u64::MAX)] {
        assert_eq!(console.ok(json!({"id": id, "op": "ping"})), json!({}));
    }
    console.end();
}

#[test]
fn console_says_why_a_run_could_not_start() {
    let mut console = Console::start();
    let run = |args: Value| json!({"id": 1, "op": "run", "args": args});
    console.fails(run(json!(["no-such-program"])), "exec", Some("exec"), Some(2));
    console.fails(run(json!(["/etc"])), "exec", Some("exec"), Some(13));
    console.fails(run(json!([])), "invalid_input", None, None);
    console.fails(run(json!(["a\0b"])), "invalid_input", Some("check_arguments"), None);
    console.fails(with(run(json!(["true"])), json!({"env": ["novalue"]})), "invalid_input", None, None);
    console.fails(with(run(json!(["true"])), json!({"env": ["=x"]})), "invalid_input", Some("check_arguments"), None);
    console.fails(with(run(json!(["true"])), json!({"limits": {"wall_ms": 1}})), "invalid_input", None, None);
    assert_eq!(console.says("echo still here"), "still here\n");
    console.end();
}

#[test]
fn console_keeps_what_was_asked_for_of_each_stream() {
    let mut console = Console::start();
    let both = |capture: Value| with(sh(1, "printf 12345; printf abc >&2"), capture);
    let ok = console.ok(both(json!({"capture_bytes": 3})));
    assert_eq!((&ok["stdout"], &ok["stdout_truncated"]), (&json!("123"), &json!(true)));
    assert_eq!((&ok["stderr"], &ok["stderr_truncated"]), (&json!("abc"), &json!(false)));
    let ok = console.ok(both(json!({"capture_bytes": 0})));
    assert_eq!((&ok["stdout"], &ok["stdout_truncated"], &ok["stderr"]), (&json!(""), &json!(true), &json!("")));

    // More than a pipe holds, too: a program never waits for what is not kept.
    let ok = console.ok(sh(1, "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2"));
    assert_eq!(ok["stdout"], "x".repeat(64 << 10));
    assert_eq!(
        (&ok["stdout_truncated"], &ok["stderr"], &ok["status"]["exited"]),
        (&json!(true), &json!("end\n"), &json!(0))
    );
    console.end();
}

#[test]
fn console_gives_what_is_not_text_in_base64() {
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
fn console_writes_reads_and_deletes_files() {
    let mut console = Console::start();
    let write = |data: Value| with(json!({"id": 1, "op": "write", "path": "dir/file"}), data);
    let read = json!({"id": 1, "op": "read", "path": "/w/dir/file", "limit_bytes": 4});
    assert_eq!(console.ok(write(json!({"data": "né\n"}))), json!({}));
    assert_eq!(console.says("cat dir/file; stat -c %a dir/file"), "né\n644\n");
    assert_eq!(console.ok(read.clone()), json!({"data": "né\n"}));
    console.ok(write(json!({"data_base64": "/wA=", "mode": 0o755})));
    assert_eq!(console.ok(read.clone()), json!({"data_base64": "/wA="}));
    console.ok(json!({"id": 1, "op": "write", "path": "script", "data": "#!/bin/sh\necho ran", "mode": 0o755}));
    assert_eq!(console.says("./script; stat -c %a script"), "ran\n755\n");
    assert_eq!(console.says("[ -O script ] && [ -O dir ] && echo mine"), "mine\n");

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
fn console_writes_and_reads_nothing_but_regular_files() {
    let mut console = Console::start();
    console.says("mkdir dir; echo kept > target; ln -s target link; ln -s nowhere dangling; mkfifo fifo");
    for path in ["dir", "link", "dangling", "fifo", "/dev/null", "dir/../link"] {
        for request in [json!({"op": "write", "data": "x"}), json!({"op": "read", "limit_bytes": 100})] {
            console.send(&with(request.clone(), json!({"id": path, "path": path})));
            let error = console.error_of(path);
            assert_eq!(error["kind"], "file", "{request} {path}: {error}");
            assert!(error["errno"].is_i64(), "{request} {path}: {error}");
        }
    }
    assert_eq!(console.says("cat target; ls"), "kept\ndangling\ndir\nfifo\nlink\ntarget\n");
    console.end();
}

#[test]
fn console_keeps_the_order_of_runs_and_resets() {
    let mut console = Console::start();
    // All are there before the first is over, in one go, and none waits for an answer.
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
fn console_serves_at_once_what_does_not_wait_for_a_run() {
    let mut console = Console::start();
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
    assert!(console.answers.is_empty(), "neither sleeper has ended");
    console.end();
    assert_eq!((&console.ok_of("a")["status"], &console.ok_of("b")["status"]), (&killed(), &killed()));
}

#[test]
fn console_kills_runs_by_their_ids() {
    let mut console = Console::start();
    let kill = |run: Value| json!({"id": "kill", "op": "kill", "run": run});
    console.send(&with(sleep(json!(["run", 1])), json!({"args": ["sh", "-c", "echo begun; sleep 4000"]})));
    console.sleeping(1);
    console.send(&sh("waits", "touch made"));
    console.send(&sh("goes on", "ls"));

    console.fails(kill(json!("nobody")), "invalid_input", None, None);
    assert_eq!(console.ok(kill(json!("waits"))), json!({}));
    let error = console.error_of("waits");
    assert_eq!((&error["kind"], &error["step"], &error["errno"]), (&json!("killed"), &Value::Null, &Value::Null));
    assert!(console.answers.is_empty(), "the run before it goes on");

    assert_eq!(console.ok(kill(json!(["run", 1]))), json!({}));
    let ok = console.ok_of(json!(["run", 1]));
    assert_eq!((&ok["status"], &ok["stdout"]), (&killed(), &json!("begun\n")));
    assert_eq!(console.ok_of("goes on")["stdout"], "", "what was killed while it waited has never started");
    console.fails(kill(json!("goes on")), "invalid_input", None, None);
    console.end();
}

#[test]
fn console_kills_all_runs_of_an_id_or_those_of_one_container() {
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
fn console_goes_on_after_a_line_that_it_does_not_understand() {
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

    // The last line need not be ended.
    console.stdin.as_ref().unwrap().write_all(b"{\"id\":\"last\",\"op\":\"ping\"}").unwrap();
    console.end();
    assert_eq!(console.ok_of("last"), json!({}));
}

#[test]
fn console_builds_what_was_asked_for() {
    let dir = open_dir();
    let path = dir.path().to_str().unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join("file"), "shown").unwrap();
    let mut console = Console::start();
    let build = |fields: Value| with(json!({"id": 1, "op": "build"}), fields);
    let binds = json!([path, format!("{path}/file:/there"), format!("{path}:/writable:rw")]);
    assert_eq!(console.ok(build(json!({"binds": binds, "tmpfs_bytes": 1 << 20}))), json!({}));
    assert_eq!(console.says(&format!("cat {path}/file /there; echo written > /writable/made")), "shownshown");
    assert_eq!(fs::read_to_string(dir.path().join("made")).unwrap(), "written\n");
    assert_eq!(console.says("stat -f -c '%b %S' /w | (read n size; echo $((n * size)))"), "1048576\n");
    let full = json!({"id": 1, "op": "write", "path": "big", "data": "x".repeat(2 << 20)});
    console.fails(full, "file", Some("write"), Some(nix::libc::ENOSPC));

    console.fails(build(json!({})), "invalid_input", None, None);
    assert_eq!(console.ok(build(json!({"container": "other"}))), json!({}));
    console.fails(build(json!({"container": "x", "binds": ["a:b:c"]})), "invalid_input", Some("check_arguments"), None);
    console.end();
}

#[test]
fn console_builds_again_after_a_build_that_failed() {
    let mut console = Console::start();
    let missing = json!({"id": 1, "op": "build", "binds": ["/no/such/file"]});
    console.fails(missing.clone(), "build", Some("open_bind_source"), Some(nix::libc::ENOENT));
    console.fails(missing, "build", Some("open_bind_source"), Some(nix::libc::ENOENT));
    assert_eq!(console.says("echo built"), "built\n");
    console.end();
}

#[test]
fn console_shares_a_build_and_destroys() {
    let mut console = Console::start();
    for id in 0..50 {
        console.send(&json!({"id": id, "op": "ping"}));
    }
    for id in 0..50 {
        assert_eq!(console.ok_of(id), json!({}));
    }
    let init = descendants(console.child.id());
    assert_eq!(init.len(), 1, "one container: {init:?}");

    console.says("touch made");
    console.send(&sleep("runs"));
    console.sleeping(1);
    console.send(&sh("waits", "true"));
    assert_eq!(console.ok(json!({"id": "destroy", "op": "destroy"})), json!({}));
    assert_eq!(alive(&init), []);
    assert_eq!(console.error_of("runs")["kind"], "destroyed");
    assert_eq!(console.error_of("waits")["kind"], "destroyed");
    assert_eq!(console.ok(json!({"id": "destroy", "op": "destroy"})), json!({}), "destroyed already");
    assert_eq!(console.says("ls"), "", "a new one");

    // What was read before a destroy has the old one, what was read after it a new one.
    console.says("touch made");
    console.send(&json!({"id": "destroy", "op": "destroy"}));
    console.send(&sh("after", "ls"));
    assert_eq!(console.ok_of("after")["stdout"], "");
    assert_eq!(console.ok_of("destroy"), json!({}));
    console.end();
}

#[test]
fn console_tells_of_a_container_that_died_until_it_is_destroyed() {
    let mut console = Console::start();
    console.ok(json!({"id": 1, "op": "ping"}));
    let init = descendants(console.child.id()).pop_first().unwrap();
    kill(Pid::from_raw(init.pid as i32), Signal::SIGKILL).unwrap();
    eventually("the death is known", || {
        console.send(&json!({"id": 2, "op": "ping"}));
        console.answer(2)["error"]["kind"] == "lost"
    });
    console.fails(sh(3, "true"), "lost", Some("serve"), None);
    console.ok(json!({"id": 4, "op": "destroy"}));
    assert_eq!(console.says("echo new"), "new\n");
    console.end();
}

#[test]
fn console_leaves_nothing_behind_at_the_end_of_input() {
    let mut console = Console::start();
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
fn console_leaves_nothing_behind_when_it_is_killed() {
    let mut console = Console::start();
    console.send(&sleep(1));
    let processes = console.sleeping(1);
    console.child.kill().unwrap();
    assert_eq!(wait(&mut console.child).signal(), Some(9));
    eventually("all are dead", || alive(&processes).is_empty());
}

#[test]
fn console_ends_when_nobody_reads_its_answers() {
    let mut child =
        example("console").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{}\n{}\n", sleep(1), json!({"id": 2, "op": "ping"})).as_bytes()).unwrap();
    assert_eq!(wait(&mut child).code(), Some(1), "while its input is still open");
}
