//! What a program beside another one is.

use std::fs;
use std::sync::{Arc, Mutex};

use cellblock::{Command, ErrorKind, Stdio, Verdict, report::Cause};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{KILLED, container, processes_with, says, sh};
use crate::{kill_running, sleeper};

#[tokio::test]
async fn a_program_runs_beside_another_one() {
    let container = container().await;
    container.write("shared", "of both\n").await.unwrap();
    let main = sleeper(&container).await;
    let output = main.beside().output(sh("cat shared; echo $$; cat; exit 3")).await.unwrap();
    assert_eq!(output.stdout, b"of both\n2\n", "the same files, and pid 2 of its namespace");
    assert_eq!((output.report.status.shell_code(), output.report.cause), (3, Cause::Exit));
    let report = kill_running(main).await;
    assert_eq!((report.status, report.cause), (KILLED, Cause::Request));

    // The runs after it are as ever.
    assert!(says(&container, &sh("echo $$")).await.parse::<u32>().unwrap() > 2);
    container.reset().await.unwrap();
    container.destroy().await;
}

#[tokio::test]
async fn its_streams_are_its_own() {
    let container = container().await;
    let mut cat = Command::new("cat");
    cat.stdin(Stdio::piped()).stdout(Stdio::piped());
    let main = container.spawn(&cat).await.unwrap();
    let beside = main.beside().spawn(&cat).await.unwrap();
    // The end of the main program would end the one beside it.
    for (mut process, text) in [(beside, "beside"), (main, "main")] {
        process.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        // The end of input is not delayed by copies of the pipe in the init or in a reaper.
        let mut shown = String::new();
        process.stdout.take().unwrap().read_to_string(&mut shown).await.unwrap();
        assert_eq!((shown.as_str(), process.wait().await.unwrap().verdict()), (text, Verdict::Ok));
    }
}

#[tokio::test]
async fn its_process_is_shown_to_its_handle_and_its_hook() {
    let container = container().await;
    let main = sleeper(&container).await;
    let beside = main.beside().spawn(sh("sleep 1000")).await.unwrap();
    let pids = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        line.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    };
    let (of_main, of_beside) = (pids(main.id().unwrap()), pids(beside.id().unwrap()));
    assert_eq!((of_beside.len(), of_beside.last()), (of_main.len() + 1, Some(&2)));

    let seen = Arc::new(Mutex::new(None));
    let sees = Arc::clone(&seen);
    let mut command = sh("exit 4");
    command.pid_hook(move |pid, _| {
        *sees.lock().unwrap() = Some(pids(pid));
        async { Ok(()) }
    });
    assert_eq!(main.beside().run(&command).await.unwrap().status.shell_code(), 4);
    assert_eq!(seen.lock().unwrap().take().unwrap().last(), Some(&2));
    command.pid_hook(|_, _| async { Err(std::io::Error::other("no")) });
    assert_eq!(main.beside().run(&command).await.unwrap_err().step(), Some("pid_hook"));
    kill_running(beside).await;
    kill_running(main).await;
}

#[tokio::test]
async fn a_program_that_cannot_start_is_an_error_of_its_own() {
    let container = container().await;
    let main = sleeper(&container).await;
    let error = main.beside().run(Command::new("/no/such/program")).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)));
    let mut command = sh("true");
    command.current_dir("/no/such/directory");
    assert_eq!(main.beside().run(command).await.unwrap_err().kind(), ErrorKind::Exec);
    assert_eq!(main.beside().output(sh("echo well")).await.unwrap().stdout, b"well\n");
    kill_running(main).await;
}

#[tokio::test]
async fn ten_programs_run_beside_one() {
    let container = container().await;
    let main = sleeper(&container).await;
    let run = async |number: u32| main.beside().output(sh(&format!("sleep 0.2; echo {number}; exit {number}"))).await;
    for (number, output) in join_all((0..10).map(run)).await.into_iter().enumerate() {
        let output = output.unwrap();
        assert_eq!(output.stdout, format!("{number}\n").into_bytes());
        assert_eq!(output.report.status.shell_code(), number as i32);
    }
    kill_running(main).await;
    assert_eq!(says(&container, &sh("echo next")).await, "next");
}

#[tokio::test]
async fn more_programs_than_are_allowed_are_refused() {
    let container = container().await;
    let main = sleeper(&container).await;
    let mut command = sh("sleep 1000");
    // A machine may not have as many processes for one user.
    command.limits(cellblock::Limits::new().allow_weaker(true).processes(u32::MAX));
    let mut besides = Vec::new();
    for _ in 0..64 {
        besides.push(main.beside().spawn(&command).await.unwrap());
    }
    let error = main.beside().run(&command).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.is_retryable(), "{error}");
    besides.pop().unwrap().kill().await.unwrap();
    kill_running(main.beside().spawn(&command).await.unwrap()).await;
    kill_running(main).await;
    for mut beside in besides {
        assert_eq!(beside.wait().await.unwrap().cause, Cause::MainEnded);
    }
}

#[tokio::test]
async fn many_quick_programs_run_beside_one() {
    let rounds = std::env::var("CELLBLOCK_TEST_SOAK").map_or(100, |rounds| rounds.parse().unwrap());
    let container = container().await;
    let main = sleeper(&container).await;
    for number in 0..rounds {
        let output = main.beside().output(sh("(setsid sleep 5301 &) ; echo ended")).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.report.verdict()), (&b"ended\n"[..], Verdict::Ok), "{number}");
        assert_eq!(processes_with("sleep 5301"), [0_u32; 0], "{number}");
    }
    kill_running(main).await;
    container.reset().await.unwrap();
}
