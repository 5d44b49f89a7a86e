//! An output of a program, read within the limit of its run.
//!
//! Invariant: both outputs of a run share one quota. Each byte that leaves a pipe is counted, and
//! each byte of the quota is let through once, whichever output is read first.

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

/// The size of a read. A program can put its pipe into packet mode (pipe(2)), in which a read
/// discards the rest of a packet that is longer than the read. No packet is longer than a page, and
/// no page of a supported architecture is larger than this.
const CHUNK: usize = 64 << 10;

/// Reads an output of a program, up to the limit of [`Limits::output`](crate::Limits::output).
///
/// The limit is for both outputs together. At the limit the run is killed, and reading comes to the
/// end.
#[derive(Debug)]
pub struct OutputPipe {
    pipe: pipe::Receiver,
    quota: Option<(Arc<Quota>, KillSwitch)>,
    /// What was read and counted. The caller has its first `taken` bytes.
    ahead: Vec<u8>,
    taken: usize,
    is_cut: bool,
}

impl OutputPipe {
    pub(super) fn new(pipe: pipe::Receiver, quota: Option<(Arc<Quota>, KillSwitch)>) -> Self {
        Self { pipe, quota, ahead: Vec::new(), taken: 0, is_cut: false }
    }

    /// Whether the program has written more than the limit let through.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Reads the next bytes of the pipe, and none at its end.
    fn poll_read_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ahead.clear();
        self.taken = 0;
        loop {
            ready!(self.pipe.poll_read_ready(context))?;
            self.ahead.reserve(CHUNK);
            match self.pipe.try_read_buf(&mut self.ahead) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }

    /// Counts the bytes that were just read. If they exceed the quota, cuts them and kills the run.
    fn count(&mut self) {
        let Some((quota, kill)) = &self.quota else { return };
        let allowed = quota.take(self.ahead.len());
        if allowed < self.ahead.len() {
            self.ahead.truncate(allowed);
            self.is_cut = true;
            quota.is_exceeded.store(true, Ordering::Relaxed);
            kill.kill(KillReason::Output);
        }
    }
}

impl AsyncRead for OutputPipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let it = &mut *self;
        if it.taken == it.ahead.len() && !it.is_cut && into.remaining() > 0 {
            ready!(it.poll_read_ahead(context))?;
            it.count();
        }
        let left = &it.ahead[it.taken..];
        let given = left.len().min(into.remaining());
        into.put_slice(&left[..given]);
        it.taken += given;
        Poll::Ready(Ok(()))
    }
}

/// Bytes that were read ahead are no longer in the pipe.
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

    /// Takes up to `wanted` bytes, and returns how many it took.
    fn take(&self, wanted: usize) -> usize {
        let subtract = |left: u64| Some(left.saturating_sub(wanted as u64));
        let had = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).unwrap_or(0);
        wanted.min(usize::try_from(had).unwrap_or(usize::MAX))
    }
}
