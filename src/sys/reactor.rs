//! File descriptors on tokio's reactor. The init never imports this.
//!
//! Invariant: an [`Async`] owns its fd from registration until its drop, which is what the reactor requires.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file descriptor that can be waited for.
#[derive(Debug)]
pub(crate) struct Async(AsyncFd<OwnedFd>);

impl Async {
    /// Registers with the current runtime. Panics outside of one, and where its IO driver is off.
    pub(crate) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open, always gives the same number, and this struct gives no way to replace or close
        // it before the `AsyncFd` is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Waits until `attempt` does something else than `WouldBlock`. Dropping the future loses nothing.
    pub(crate) async fn io<T>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.async_io(interest, |fd| attempt(fd.as_fd())).await
    }

    /// As [`io`](Self::io) for reading, or for writing where the interest is that, within a `poll` of the caller's own.
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

    /// As [`io`](Self::io), for reading. Where nothing `more` can be there than what one attempt reads, the readiness is
    /// given up without asking the kernel once more; what comes later, or an end that came already, still wakes the next.
    pub(crate) async fn read<T>(
        &self,
        more: bool,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(result) = guard.try_io(|fd| attempt(fd.as_fd())) {
                if !more {
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
