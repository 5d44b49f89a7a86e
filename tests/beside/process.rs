//! What a handle can do with its process.

use std::time::Duration;

use cellblock::process::Signal;
use cellblock::{Command, ErrorKind, Limits, Stdio, report::Cause, report::Status};
use nix::poll::{PollFd, PollFlags, poll};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::common::{KILLED, container, sh};
use crate::{kill_running, sleeper};

#[tokio::test]
async fn a_signal_reaches_the_program_and_no_other() {
    let container = container().await;
    let mut command = sh("trap 'echo interrupted' INT; trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    command.stdout(Stdio::piped());
    let mut main = container.spawn(&command).await.unwrap();
    let mut beside = main.beside().spawn(&command).await.unwrap();
    let mut lines = BufReader::new(beside.stdout.take().unwrap()).lines();
    let mut of_main = BufReader::new(main.stdout.take().unwrap()).lines();
    for lines in [&mut lines, &mut of_main] {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    }
    beside.signal(Signal::INTERRUPT).await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("interrupted"));
    beside.signal(Signal::TERMINATE).await.unwrap();
    assert_eq!(beside.wait().await.unwrap().status, Status::Exited(7));
    assert_eq!(beside.signal(Signal::TERMINATE).await.unwrap_err().kind(), ErrorKind::NotRunning);

    main.signal(Signal::INTERRUPT).await.unwrap();
    assert_eq!(of_main.next_line().await.unwrap().as_deref(), Some("interrupted"), "the first one that it got");
    main.signal(Signal::KILL).await.unwrap();
    let report = main.wait().await.unwrap();
    assert_eq!((report.status, report.cause), (KILLED, Cause::Signal));
    assert_eq!(main.signal(Signal::KILL).await.unwrap_err().kind(), ErrorKind::NotRunning);
    container.destroy().await;
    assert_eq!(main.signal(Signal::KILL).await.unwrap_err().kind(), ErrorKind::Destroyed);
}

#[tokio::test]
async fn a_pidfd_tells_of_the_end() {
    let container = container().await;
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    let has_ended = |process: &cellblock::Process, timeout: u16| {
        poll(&mut [PollFd::new(process.pidfd().unwrap(), PollFlags::POLLIN)], timeout).unwrap() == 1
    };
    assert!(!has_ended(&process, 0));
    process.wait().await.unwrap();
    assert!(has_ended(&process, 10_000));
    assert_eq!(process.id(), None);
}

#[tokio::test]
async fn a_kill_handle_kills_its_run_from_anywhere() {
    let container = container().await;
    let mut main = sleeper(&container).await;
    let mut beside = main.beside().spawn(sh("sleep 1000")).await.unwrap();
    let (of_main, of_beside) = (main.kill_handle(), beside.kill_handle());
    tokio::spawn(async move { of_beside.kill() });
    let report = beside.wait().await.unwrap();
    assert_eq!((report.status, report.cause), (KILLED, Cause::Request));
    assert!(main.try_wait().unwrap().is_none());
    let again = of_main.clone();
    of_main.kill();
    assert_eq!(main.wait().await.unwrap().cause, Cause::Request);
    // The run is over: the next one is not killed.
    let next = sleeper(&container).await;
    again.kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    kill_running(next).await;
}

#[tokio::test]
async fn a_terminal_is_resized_by_the_process() {
    let container = container().await;
    let mut command = sh("read line; stty size");
    command.stdin(Stdio::pty()).stdout(Stdio::pty()).limits(Limits::new().no_wall_time());
    let main = sleeper(&container).await;
    assert_eq!(main.resize(1, 1).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let mut process = main.beside().spawn(&command).await.unwrap();
    process.resize(33, 77).unwrap();
    let mut pty = process.pty.take().unwrap();
    pty.write_all(b"go\n").await.unwrap();
    let mut shown = String::new();
    pty.read_to_string(&mut shown).await.unwrap();
    assert!(shown.ends_with("33 77\r\n"), "{shown:?}");
    let report = process.wait().await.unwrap();
    assert!(report.limit(cellblock::limits::Limit::WallTime).is_none(), "{report}");
}
