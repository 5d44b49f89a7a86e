//! Work that may block, on the runtime's threads for it.

use std::io;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::{Error, ErrorKind, Result, Step};

/// Reads or writes on a thread of its own, however little it is: a program can keep its file busy,
/// and the kernel lets one writer in at a time.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await?
}

/// Does several steps on a thread of its own. Each has its own error.
pub(super) async fn steps_off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    joined(&mut spawn_blocking(work)).await
}

/// Waits for steps on a thread of its own.
pub(super) async fn joined<T>(work: &mut JoinHandle<Result<T>>) -> Result<T> {
    let lost = |error| Error::io(ErrorKind::Host, Step::Copy, io::Error::from(error));
    work.await.map_err(lost)?
}
