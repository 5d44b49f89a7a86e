//! The end of a container: the init is reaped and the group removed before the reason is told.

use std::fs::File;
use std::time::Duration;

use crate::cgroup::RunGroup;
use crate::container::connection::stderr_tail;
use crate::container::processes::Pid1;
use crate::error::{Error, ErrorKind, Step};

/// Kills and reaps the init and removes the group. Adds the init's standard error to a reason that
/// the caller did not ask for.
pub(super) async fn teardown(pid1: Pid1, group: Option<RunGroup>, mut stderr: File, reason: Error) -> Error {
    if let Some(group) = &group {
        group.lift_rate();
    }
    if let Err(error) = pid1.kill_and_reap().await {
        return Error::io(ErrorKind::Lost, Step::Wait, error);
    }
    if let Some(group) = group {
        remove(group).await;
    }
    match stderr_tail(&mut stderr) {
        Some(tail) if reason.kind() == ErrorKind::Lost => Error::lost(format!("{reason}; it had said: {tail}")),
        _ => reason,
    }
}

/// Removes the group. The last processes may still be exiting. After 100 ms the drop of the group
/// removes it in the background.
async fn remove(group: RunGroup) {
    for _ in 0..100 {
        match group.remove() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            _ => break,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
