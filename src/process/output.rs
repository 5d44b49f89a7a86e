//! What a run writes: read live, within its limit, or collected.
//!
//! Invariant: of what both outputs may have together no byte is let through twice, whoever reads them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::unix::pipe;

use crate::command::{Capture, Overflow};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::report::Report;
use crate::wire::KillReason;

use super::streams::Streams;
use super::{KillSwitch, Run};

/// Reads an output of a program, up to the limit that [`Limits::output`](crate::Limits::output) sets for both together: there
/// the run is killed, and this comes to its end.
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

    /// Whether the program had written more than was let through.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl AsyncRead for OutputPipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { pipe, quota, is_cut } = &mut *self;
        let Some((quota, kill)) = quota else { return Pin::new(pipe).poll_read(context, into) };
        if *is_cut || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // Taken before it is read, and what was not needed is given back: there is another reader.
        let wanted = into.remaining().min(64 << 10);
        let take = |left: u64| Some(left.saturating_sub(wanted as u64));
        let had = quota.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        let taken = wanted.min(usize::try_from(had).unwrap_or(usize::MAX));
        if taken > 0 {
            let mut part = ReadBuf::new(into.initialize_unfilled_to(taken));
            let polled = Pin::new(pipe).poll_read(context, &mut part);
            let read = part.filled().len();
            quota.left.fetch_add((taken - read) as u64, Ordering::Relaxed);
            into.advance(read);
            return polled;
        }
        let mut beyond = [0];
        let mut part = ReadBuf::new(&mut beyond);
        let polled = Pin::new(pipe).poll_read(context, &mut part);
        if !part.filled().is_empty() {
            *is_cut = true;
            quota.is_exceeded.store(true, Ordering::Relaxed);
            kill.kill(KillReason::Output);
        }
        polled
    }
}

impl AsFd for OutputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// What a program wrote, as far as it was kept: from [`Container::output`](crate::Container::output).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What is known about the run.
    pub report: Report,
    /// The beginning of its standard output or, where it had one, of what its terminal showed.
    pub stdout: Vec<u8>,
    /// Whether it wrote more to standard output than was kept.
    pub stdout_truncated: bool,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
    /// Whether it wrote more to standard error than was kept.
    pub stderr_truncated: bool,
}

impl Output {
    /// Reads both outputs to their ends while the run goes on.
    pub(crate) async fn collect(streams: Streams, mut run: Run, keep: Capture) -> Result<Self> {
        let Streams { stdin, stdout, stderr, pty } = streams;
        drop(stdin);
        let (mut stdout, mut stderr) = (stdout.map(|pipe| run.metered(pipe)), stderr.map(|pipe| run.metered(pipe)));
        let kill = run.kill.clone();
        let overflow = || match keep.overflow {
            Overflow::Discard => {}
            Overflow::Kill => kill.kill(KillReason::Output),
        };
        let is_piped = stdout.is_some();
        let (out, err) = (&mut stdout, &mut stderr);
        let (out, err) = (capture(out.as_mut(), keep.bytes, overflow), capture(err.as_mut(), keep.bytes, overflow));
        let shown = capture(pty, keep.bytes, overflow);
        let (out, err, shown, report) = tokio::join!(out, err, shown, run.wait());
        let out = if is_piped { out } else { shown };
        report?;
        // Once more: now it is known what was read.
        let report = run.wait().await?;
        let failure = |error| Error::io(ErrorKind::Host, Step::Read, error);
        let (out, out_has_more) = out.map_err(failure)?;
        let (err, err_has_more) = err.map_err(failure)?;
        let is_cut = |pipe: Option<OutputPipe>| pipe.is_some_and(|pipe| pipe.is_cut());
        Ok(Self {
            report,
            stdout: out,
            stdout_truncated: out_has_more || is_cut(stdout),
            stderr: err,
            stderr_truncated: err_has_more || is_cut(stderr),
        })
    }
}

/// The first `keep` bytes, and whether there were more, which is told as soon as it is known. Reads to the end in any case.
async fn capture(
    stream: Option<impl AsyncRead + Unpin>,
    keep: usize,
    overflow: impl FnOnce(),
) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return Ok((kept, false));
    };
    (&mut stream).take(keep as u64).read_to_end(&mut kept).await?;
    if kept.len() < keep {
        return Ok((kept, false));
    }
    if stream.read(&mut [0]).await? == 0 {
        return Ok((kept, false));
    }
    overflow();
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok((kept, true))
}

/// How much more a run may write to its pipes, where that is limited.
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
}
