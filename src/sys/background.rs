//! Clean-up work on a thread of its own.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::log;

/// Runs clean-up work whose owner is gone. There may be no runtime any more, so it gets a thread.
/// If no thread can be started, the work runs here.
pub(crate) fn in_background(work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    // Shared, because a failed spawn does not return its closure.
    let here = Arc::new(Mutex::new(Some(work)));
    let there = Arc::clone(&here);
    let thread = std::thread::Builder::new().name("cellblock-reaper".into()).stack_size(256 << 10);
    if thread.spawn(move || run(&there)).is_err() {
        run(&here);
    }
}

fn run(work: &Mutex<Option<impl FnOnce() -> io::Result<()>>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(error)) = work.map(|work| work()) {
        // There is no caller to return the error to.
        log::warn("clean-up failed", &error);
    }
}
