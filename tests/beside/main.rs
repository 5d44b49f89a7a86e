//! Programs beside a running one: what they are, what each may use, how each ends, and what none
//! can do to another.
//!
//! `CELLBLOCK_TEST_SOAK` sets how many runs the soak makes (100).
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod ends;
mod limits;
mod process;
mod runs;

use std::time::Duration;

use cellblock::{Container, Process, Report};

use common::{is_slow, sh};

/// A main program that runs until it is killed.
async fn sleeper(container: &Container) -> Process {
    container.spawn(&sh("sleep 1000")).await.unwrap()
}

/// A time in milliseconds, or ten times that on an emulated machine.
fn millis(count: u64) -> Duration {
    Duration::from_millis(if is_slow() { 10 * count } else { count })
}

/// Asserts that a program still runs, and kills it.
async fn kill_running(mut process: Process) -> Report {
    assert!(process.try_wait().unwrap().is_none(), "it runs");
    process.kill().await.unwrap()
}
