//! What a handle sends to its container's actor.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::fingerprint::Fingerprint;
use crate::limits::{GroupLimits, Held};
use crate::observe::RunSpan;
use crate::report::Report;
use crate::wire::{KillReason, Request, StartRun};

use super::death::DeathRecord;
use super::reply::{PendingReply, ReplySender};

/// A message with the record of the handle that sent it.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) from: Arc<DeathRecord>,
    pub(super) message: Message,
}

#[derive(Debug)]
pub(super) enum Message {
    /// A request to send at once.
    Request(Request, PendingReply),
    /// An operation to queue.
    Queue(Operation),
    /// A run to start beside this one or, without a key, beside the one that is going on.
    Beside(Option<RunKey>, QueuedRun),
    /// A signal, by its number, for the program of this run.
    Signal(RunKey, i32, ReplySender<()>),
    /// Ends all that the handles so far have asked for, resets the container, and serves this
    /// record.
    Renew(Arc<DeathRecord>, ReplySender<()>),
}

/// An operation that takes its turn: one runs at a time, in the order of the messages.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are runs")]
pub(super) enum Operation {
    Reset(ReplySender<()>),
    Freeze(ReplySender<()>),
    Fingerprint(ReplySender<Fingerprint>),
    Run(QueuedRun),
}

impl Operation {
    /// Whether the caller has dropped its future.
    pub(super) fn is_canceled(&self) -> bool {
        match self {
            Self::Reset(reply) | Self::Freeze(reply) => reply.is_closed(),
            Self::Fingerprint(reply) => reply.is_closed(),
            Self::Run(run) => run.outcome.is_closed(),
        }
    }
}

/// The name of a run, on the host, from its call on. No two runs of this process have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunKey(u64);

impl RunKey {
    pub(super) fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// Where a run is started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// After the runs and resets before it.
    Queue,
    /// Beside this run or, without a key, beside the one that is going on.
    Beside(Option<RunKey>),
}

#[derive(Debug)]
pub(super) struct QueuedRun {
    pub(super) key: RunKey,
    pub(super) request: StartRun,
    pub(super) fds: Vec<Arc<OwnedFd>>,
    pub(super) group: GroupLimits,
    pub(super) held: Vec<Held>,
    /// Gets the pid and a pidfd of the run's process, if the request asks the init for them.
    pub(super) forked: Option<ReplySender<(u32, OwnedFd)>>,
    pub(super) outcome: ReplySender<Report>,
    pub(super) span: RunSpan,
    /// Until when the run waits for the kernel to free memory of earlier runs.
    pub(super) memory_deadline: Option<Instant>,
    /// Resolves when the run is to be killed. `Err` means that the caller dropped its handle.
    pub(super) killed: oneshot::Receiver<KillReason>,
}
