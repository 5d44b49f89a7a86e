//! The end of a container: the init is reaped and the group removed before the reason is told.

use std::fs::File;

use crate::container::connection::stderr_tail;
use crate::container::processes::Pid1;
use crate::error::{Error, ErrorKind, Step};

use super::besides::Besides;
use super::group_worker::GroupWorker;

/// Kills and reaps the init and removes the groups. Adds the init's standard error to a reason that
/// the caller did not ask for.
pub(super) async fn teardown(
    pid1: Pid1,
    (mut group, mut besides): (GroupWorker, Besides),
    mut stderr: File,
    reason: Error,
) -> Error {
    group.lift_rate().await;
    besides.lift_rates().await;
    if let Err(error) = pid1.kill_and_reap().await {
        return Error::io(ErrorKind::Lost, Step::Wait, error);
    }
    besides.remove_all().await;
    group.remove().await;
    match stderr_tail(&mut stderr) {
        Some(tail) if reason.kind() == ErrorKind::Lost => Error::lost(format!("{reason}; it had said: {tail}")),
        _ => reason,
    }
}
