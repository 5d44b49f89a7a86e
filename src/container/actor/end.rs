//! The end of a container: its reason, and that nothing is left when it is told.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::RunGroup;
use crate::container::Shared;
use crate::container::launch::stderr_tail;
use crate::container::lease::returned;
use crate::container::processes::Init;
use crate::error::{Error, ErrorKind, Step};

pub(super) fn destroyed() -> Error {
    Error::new(ErrorKind::Destroyed, Step::Serve)
}

/// Sees the init to its end and removes the group, and adds what the init had said to a reason that is not the caller's own.
pub(super) async fn teardown(init: Init, group: Option<RunGroup>, mut stderr: File, reason: Error) -> Error {
    if let Some(group) = &group {
        group.lift_rate();
    }
    if let Err(error) = init.end().await {
        return Error::io(ErrorKind::Lost, Step::Wait, error);
    }
    if let Some(group) = group {
        // The last processes may be on their way out. What takes longer is removed in the background.
        for _ in 0..100 {
            match group.remove() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    match stderr_tail(&mut stderr) {
        Some(words) if reason.kind() == ErrorKind::Lost => Error::lost(format!("{reason}; it had said: {words}")),
        _ => reason,
    }
}

/// Records for these handles why their container ended, also where the actor is dropped with its runtime or panics.
pub(super) struct RecordDeath(pub(super) Arc<Shared>);

impl RecordDeath {
    pub(super) fn set(&self, reason: Error) {
        // The first reason counts.
        drop(self.0.death.set(reason));
    }

    /// The handles so far are dead, and the next ones are to be told.
    pub(super) fn hand_over(&mut self, next: Arc<Shared>) {
        self.set(returned());
        self.0 = next;
    }
}

impl Drop for RecordDeath {
    fn drop(&mut self) {
        self.set(Error::lost("its runtime ended, or its task panicked"));
    }
}
