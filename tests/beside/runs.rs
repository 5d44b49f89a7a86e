//! What a program beside another one is, and how each ends.

use cellblock::report::Cause;
use cellblock::{Command, Container, ErrorKind, Process, Stdio};

use crate::common::{KILLED, SECOND, container, python, sh};

/// A main program that runs until it is killed.
async fn sleeper(container: &Container) -> Process {
    container.spawn(&sh("sleep 1000")).await.unwrap()
}

#[tokio::test]
async fn a_program_runs_beside_another_one() {
    let container = container().await;
    let mut main = sleeper(&container).await;
    let start = std::time::Instant::now();
    let output = main.beside().output(sh("echo $$; exit 3")).await.unwrap();
    println!("{:?}", start.elapsed());
    assert_eq!((output.report.status.shell_code(), output.stdout.as_slice()), (3, &b"2\n"[..]), "{output:?}");
    println!("{}", output.report);
    assert!(main.try_wait().unwrap().is_none());
    let report = main.kill().await.unwrap();
    assert_eq!(report.status, KILLED);
    println!("{}", report);
    container.reset().await.unwrap();
    container.destroy().await;
}
#[tokio::test]
async fn the_end_of_the_main_run_ends_those_beside_it() {
    let container = container().await;
    let mut main = sleeper(&container).await;
    let mut beside = main.beside().spawn(sh("sleep 1000 & sleep 1000")).await.unwrap();
    main.kill().await.unwrap();
    let report = beside.wait().await.unwrap();
    assert_eq!((report.status, report.cause), (KILLED, Cause::MainEnded));
    let late = container.beside().run(sh("true")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotRunning);
    container.destroy().await;
}
