//! File descriptors on tokio's reactor. The init never imports this.
//!
//! Invariant: an [`Async`] owns its descriptor from the registration until its drop. The reactor
//! requires that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file descriptor whose readiness a task can await.
#[derive(Debug)]
pub(crate) struct Async(AsyncFd<OwnedFd>);

impl Async {
    /// Registers with the current runtime. Panics without a runtime, and if its I/O driver is
    /// disabled.
    pub(crate) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open and always returns the same number. This struct cannot
        // replace or close it before the `AsyncFd` is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Repeats `attempt` until it returns something else than `WouldBlock`. Dropping the future
    /// loses nothing.
    pub(crate) async fn io<T>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.async_io(interest, |fd| attempt(fd.as_fd())).await
    }

    /// [`io`](Self::io) for a `poll` function: for writing if the interest is that, otherwise for
    /// reading.
    pub(crate) fn poll_io<T>(
        &self,
        interest: Interest,
        context: &mut Context<'_>,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let mut guard = ready!(if interest.is_writable() {
                self.0.poll_write_ready(context)
            } else {
                self.0.poll_read_ready(context)
            })?;
            if let Ok(result) = guard.try_io(|fd| attempt(fd.as_fd())) {
                return Poll::Ready(result);
            }
        }
    }

    /// [`io`](Self::io) for reading. Without `expect_more`, the readiness is cleared after one
    /// attempt without another system call: that attempt read everything. Later data, or an end of
    /// file that has already arrived, still wakes the next read.
    pub(crate) async fn read<T>(
        &self,
        expect_more: bool,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(result) = guard.try_io(|fd| attempt(fd.as_fd())) {
                if !expect_more {
                    guard.clear_ready();
                }
                return result;
            }
        }
    }
}

impl AsFd for Async {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
