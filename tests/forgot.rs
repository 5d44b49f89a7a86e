//! A service whose `main` forgot to call `init()`.
//!
//! The library starts the service's own executable as the init, so this test needs a `main` of its
//! own: it has no harness and is a suite by itself.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use cellblock::{Container, ErrorKind};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let error = runtime.block_on(Container::builder().build()).unwrap_err();
    if std::env::args().nth(1).is_some_and(|argument| argument == "cellblock:init") {
        // This process was started as the init.
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(start.elapsed() < Duration::from_millis(100), "it fails at once");
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
        assert_eq!(children, "", "it starts no process");
        eprintln!("{error}");
        std::process::exit(3);
    }
    assert_eq!(error.kind(), ErrorKind::Build);
    let message = error.to_string();
    assert!(message.contains("its main has not called cellblock::init(): call it before anything else"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(5));
    println!("test a_service_that_forgot_init_is_told_so ... ok");
}
