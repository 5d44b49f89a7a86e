//! The standard streams: piped, captured, merged, opened by name, or files of the host.

use std::fs::File;

use cellblock::{Command, ErrorKind, Stdio, command::Overflow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{KILLED, container, open_dir, sh};

#[tokio::test]
async fn streams_are_live() {
    let container = container().await;
    let mut command = sh("while read line; do echo \"got $line\"; echo err >&2; done; echo end");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    let (stdin, stdout) = (process.stdin.as_mut().unwrap(), process.stdout.as_mut().unwrap());
    let mut buffer = [0; 64];
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let size = stdout.read(&mut buffer).await.unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..size]).unwrap(), format!("got {word}\n"));
    }
    assert!(process.wait().await.unwrap().status.success(), "wait ends the input");
    let mut rest = String::new();
    process.stdout.take().unwrap().read_to_string(&mut rest).await.unwrap();
    process.stderr.take().unwrap().read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "end\nerr\nerr\n");
    assert!(process.wait().await.unwrap().status.success(), "a second wait returns the report");
}

#[tokio::test]
async fn a_command_can_run_again_with_the_same_input() {
    let container = container().await;
    let mut command = Command::new("/bin/cat");
    command.stdin(Stdio::bytes("input"));
    for _ in 0..3 {
        assert_eq!(container.output(&command).await.unwrap().stdout, b"input");
    }
}

#[tokio::test]
async fn captured_output_is_truncated_without_blocking_the_program() {
    let container = container().await;
    let mut command = sh("head -c 3000000 /dev/zero; head -c 10 /dev/zero >&2");
    let output = container.output(command.capture_bytes(10)).await.unwrap();
    assert!(output.report.status.success());
    assert_eq!((output.stdout.len(), output.stdout_truncated), (10, true));
    assert_eq!((output.stderr.len(), output.stderr_truncated), (10, false));
    let output = container.output(command.capture_bytes(0)).await.unwrap();
    assert_eq!((output.stdout.len(), output.stdout_truncated, output.stderr_truncated), (0, true, true));
}

#[tokio::test]
async fn overflow_may_kill_the_run() {
    let container = container().await;
    let mut command = sh("echo before >&2; yes; echo never");
    command.capture_bytes(1000).overflow(Overflow::Kill);
    let output = container.output(&command).await.unwrap();
    assert_eq!((output.report.status, output.stdout.len(), output.stdout_truncated), (KILLED, 1000, true));
    assert_eq!((output.stderr.as_slice(), output.stderr_truncated), (&b"before\n"[..], false));
    let mut command = sh("printf 1234");
    let output = container.output(command.capture_bytes(4).overflow(Overflow::Kill)).await.unwrap();
    assert!(output.report.status.success() && !output.stdout_truncated, "exactly the limit is allowed");
}

#[tokio::test]
async fn streams_can_be_opened_by_name() {
    let container = container().await;
    let mut command = sh("cat /dev/stdin > /dev/stdout; echo err > /dev/stderr");
    let output = container.output(command.stdin(Stdio::bytes("in"))).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"in"[..], &b"err\n"[..]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    process.stdin.as_mut().unwrap().write_all(b"piped").await.unwrap();
    assert!(process.wait().await.unwrap().status.success());
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "piped");
}

#[tokio::test]
async fn stderr_can_go_to_stdout() {
    let container = container().await;
    let mut command = sh("echo 1; echo 2 >&2; echo 3");
    let output = container.output(command.stderr(Stdio::as_stdout())).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"1\n2\n3\n"[..], &b""[..]));
    let to_null = container.run(command.stdout(Stdio::null())).await.unwrap();
    assert!(to_null.status.success());
    let error = container.run(sh(":").stdout(Stdio::as_stdout())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn files_of_the_host_can_be_streams() {
    let container = container().await;
    let dir = open_dir();
    let path = dir.path().join("out");
    let file = File::create(&path).unwrap();
    let mut command = sh("cat; echo err >&2");
    command.stdin(File::open("/etc/hostname").unwrap());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    assert!(container.run(&command).await.unwrap().status.success());
    let expected = std::fs::read_to_string("/etc/hostname").unwrap() + "err\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}
