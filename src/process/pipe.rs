//! An output of a program, read within the limit of its run.
//!
//! Invariant: both outputs of a run share one quota. Each byte of it is let through once, whichever
//! output is read first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use crate::wire::KillReason;

use super::kill::KillSwitch;

/// The most that one read takes of the quota.
const CHUNK: usize = 64 << 10;

/// Reads an output of a program, up to the limit of [`Limits::output`](crate::Limits::output).
///
/// The limit is for both outputs together. At the limit the run is killed, and reading comes to the
/// end.
#[derive(Debug)]
pub struct OutputPipe {
    pipe: pipe::Receiver,
    quota: Option<(Arc<Quota>, KillSwitch)>,
    is_cut: bool,
}

impl OutputPipe {
    pub(super) fn new(pipe: pipe::Receiver, quota: Option<(Arc<Quota>, KillSwitch)>) -> Self {
        Self { pipe, quota, is_cut: false }
    }

    /// Whether the program has written more than the limit let through.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Reads one byte beyond an empty quota. If there is one, kills the run.
    fn poll_beyond_quota(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut beyond = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.pipe).poll_read(context, &mut beyond))?;
        if let (false, Some((quota, kill))) = (beyond.filled().is_empty(), &self.quota) {
            self.is_cut = true;
            quota.is_exceeded.store(true, Ordering::Relaxed);
            kill.kill(KillReason::Output);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for OutputPipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let it = &mut *self;
        let Some((quota, _)) = &it.quota else { return Pin::new(&mut it.pipe).poll_read(context, into) };
        if it.is_cut || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let taken = quota.take(into.remaining().min(CHUNK));
        if taken == 0 {
            return it.poll_beyond_quota(context);
        }
        let mut part = ReadBuf::new(into.initialize_unfilled_to(taken));
        let polled = Pin::new(&mut it.pipe).poll_read(context, &mut part);
        let read = part.filled().len();
        quota.give_back(taken - read);
        into.advance(read);
        polled
    }
}

impl AsFd for OutputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// How many bytes a run may still write to its pipes.
#[derive(Debug)]
pub(super) struct Quota {
    left: AtomicU64,
    is_exceeded: AtomicBool,
}

impl Quota {
    pub(super) fn new(bytes: u64) -> Self {
        Self { left: AtomicU64::new(bytes), is_exceeded: AtomicBool::new(false) }
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Ordering::Relaxed)
    }

    /// Takes up to `wanted` bytes, before a read: the other output has a reader too.
    fn take(&self, wanted: usize) -> usize {
        let subtract = |left: u64| Some(left.saturating_sub(wanted as u64));
        let had = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).unwrap_or(0);
        wanted.min(usize::try_from(had).unwrap_or(usize::MAX))
    }

    /// Gives back what a read did not use.
    fn give_back(&self, unused: usize) {
        self.left.fetch_add(unused as u64, Ordering::Relaxed);
    }
}
