//! Programs on a pseudo-terminal.

use std::time::Duration;

use cellblock::{Command, ErrorKind, Mount, Process, Stdio, process::Pty, report::Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{builder, container, sh};

fn on_a_terminal(mut command: Command) -> Command {
    command.stdin(Stdio::pty()).stdout(Stdio::pty()).stderr(Stdio::pty());
    command
}

/// Reads until the terminal shows `wanted`, and returns everything read.
async fn shows(pty: &mut Pty, wanted: &str) -> String {
    let mut shown = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&shown).contains(wanted) {
            assert_ne!(pty.read_buf(&mut shown).await.unwrap(), 0, "{:?}", String::from_utf8_lossy(&shown));
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), read).await.is_err() {
        panic!("the terminal never shows {wanted:?}: {:?}", String::from_utf8_lossy(&shown));
    }
    String::from_utf8(shown).unwrap()
}

async fn rest(mut process: Process) -> (String, Status) {
    let mut shown = String::new();
    let pty = process.pty.as_mut().unwrap();
    if tokio::time::timeout(Duration::from_secs(10), pty.read_to_string(&mut shown)).await.is_err() {
        panic!("the terminal is never closed: {shown:?}");
    }
    (shown, process.wait().await.unwrap().status)
}

#[tokio::test]
async fn all_three_streams_are_the_controlling_terminal_of_the_session() {
    let container = container().await;
    let script = "import os; print([os.isatty(n) for n in range(3)], len({os.fstat(n).st_rdev for n in range(3)}), \
                  os.tcgetpgrp(0) == os.getpid() == os.getsid(0), tuple(os.get_terminal_size()))";
    let output = container.output(&on_a_terminal(crate::common::python(script))).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[True, True, True] 1 True (80, 24)\r\n");
    let without = container.output(&crate::common::python("import os; print(os.isatty(0))")).await.unwrap();
    assert_eq!(without.stdout, b"False\n", "the control");
}

#[tokio::test]
async fn a_terminal_has_the_requested_size() {
    let container = container().await;
    let mut command = on_a_terminal(sh("trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.01; done"));
    command.window_size(50, 132);
    let mut process = container.spawn(&command).await.unwrap();
    let pty = process.pty.as_mut().unwrap();
    shows(pty, "50 132\r\n").await;
    pty.resize(30, 100).unwrap();
    assert_eq!(rest(process).await, ("30 100\r\n".into(), Status::Exited(0)));
}

#[tokio::test]
async fn input_is_echoed_and_read_by_lines() {
    let container = container().await;
    let mut process = container.spawn(&on_a_terminal(sh("read line; echo \"<$line>\"; cat"))).await.unwrap();
    let pty = process.pty.as_mut().unwrap();
    pty.write_all(b"wrogn\x7f\x7fng\n").await.unwrap();
    shows(pty, "<wrong>\r\n").await;
    pty.write_all(b"\x04").await.unwrap();
    assert_eq!(rest(process).await.1, Status::Exited(0), "Ctrl-D ends the input");
}

#[tokio::test]
async fn ctrl_c_interrupts_the_foreground_program() {
    let container = container().await;
    let mut process = container.spawn(&on_a_terminal(Command::new("/bin/cat"))).await.unwrap();
    let pty = process.pty.as_mut().unwrap();
    pty.write_all(b"ready\n").await.unwrap();
    shows(pty, "ready\r\nready\r\n").await;
    pty.write_all(b"\x03").await.unwrap();
    assert!(matches!(rest(process).await.1, Status::Signaled { signal: libc::SIGINT, .. }));
}

#[tokio::test]
async fn a_shell_has_job_control() {
    let container = container().await;
    let mut command = on_a_terminal(Command::new("/bin/sh"));
    command.arg("-i").env("PATH", "/usr/bin:/bin").env("PS1", "$ ");
    let mut process = container.spawn(&command).await.unwrap();
    let pty = process.pty.as_mut().unwrap();
    let said = shows(pty, "$ ").await;
    assert!(!said.contains("job control"), "{said}");
    pty.write_all(b"cat\n").await.unwrap();
    pty.write_all(b"here\n").await.unwrap();
    shows(pty, "here\r\nhere\r\n").await;
    pty.write_all(b"\x1a").await.unwrap();
    shows(pty, "$ ").await;
    pty.write_all(b"jobs\n").await.unwrap();
    let jobs = shows(pty, "$ ").await;
    assert!(jobs.contains("cat") && jobs.contains("Stopped"), "{jobs}");
    pty.write_all(b"fg\n").await.unwrap();
    shows(pty, "cat\r\n").await;
    // The shell prints the job before it hands the terminal over. Only output of the job itself
    // shows that the job has the terminal.
    pty.write_all(b"again\n").await.unwrap();
    shows(pty, "again\r\nagain\r\n").await;
    pty.write_all(b"\x03").await.unwrap();
    shows(pty, "$ ").await;
    pty.write_all(b"exit 7\n").await.unwrap();
    assert_eq!(rest(process).await.1, Status::Exited(7));
}

#[tokio::test]
async fn a_dropped_terminal_hangs_up() {
    let container = container().await;
    let mut process = container.spawn(&on_a_terminal(Command::new("/bin/cat"))).await.unwrap();
    let pty = process.pty.as_mut().unwrap();
    pty.write_all(b"ready\n").await.unwrap();
    shows(pty, "ready\r\nready\r\n").await;
    drop(process.pty.take());
    assert!(matches!(process.wait().await.unwrap().status, Status::Signaled { signal: libc::SIGHUP, .. }));
    let error = container.run(&on_a_terminal(sh("sleep 60"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "`run` has no caller at the terminal");
}

#[tokio::test]
async fn a_terminal_can_be_opened_as_dev_tty() {
    let container = builder().mount(Mount::device("/dev/tty")).build().await.unwrap();
    let output = container.output(&on_a_terminal(sh("echo a >/dev/tty; echo b >/dev/stdout"))).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a\r\nb\r\n");
    let output = container.output(&sh("echo a >/dev/tty")).await.unwrap();
    assert!(!output.report.status.success(), "the next run has no terminal");
}

#[tokio::test]
async fn a_terminal_for_some_streams_leaves_the_others_alone() {
    let container = container().await;
    let mut command = sh("echo out; echo err >&2");
    command.stderr(Stdio::pty());
    let output = container.output(&command).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b""[..]));
    let mut command = sh("read word; echo $word; [ -t 0 ] && [ ! -t 1 ]");
    command.stdin(Stdio::pty()).stdout(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    process.pty.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!((said.as_str(), process.wait().await.unwrap().status), ("word\n", Status::Exited(0)));
}
