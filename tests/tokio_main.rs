//! A service that never calls `init()`, with `#[tokio::main]` as anybody writes it.
//!
//! Its own executable is the init, so this test needs a `main` of its own: it has no harness and is
//! a suite by itself.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

use std::process::{Command as HostCommand, Stdio};
use std::time::{Duration, Instant};

use cellblock::{Command, Container, ErrorKind};

#[tokio::main]
async fn main() -> cellblock::Result<()> {
    if std::env::args().nth(1).is_some_and(|argument| argument == "cellblock:init") {
        return refuse_to_build().await;
    }
    let container = Container::builder().build().await?;
    let output = container.output(Command::new("echo").arg("hello")).await?;
    assert_eq!(output.stdout_lossy(), "hello\n");
    container.destroy().await;
    println!("test tokio_main_needs_no_call_of_init ... ok");

    let own = std::env::current_exe().unwrap();
    let status = HostCommand::new(own).arg("cellblock:init").stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    println!("test a_process_with_the_argument_of_an_init_and_no_socket_builds_nothing ... ok");
    Ok(())
}

/// Such a process could start itself over and over.
async fn refuse_to_build() -> cellblock::Result<()> {
    let start = Instant::now();
    let error = Container::builder().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("call cellblock::init() first in main"), "{error}");
    assert!(start.elapsed() < Duration::from_millis(100), "it fails at once");
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "it starts no process");
    Ok(())
}
