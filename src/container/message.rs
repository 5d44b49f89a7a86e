//! What a handle sends to its container's actor.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::fingerprint::Fingerprint;
use crate::limits::{GroupLimits, Held};
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

#[derive(Debug)]
pub(super) struct QueuedRun {
    pub(super) request: StartRun,
    pub(super) fds: Vec<Arc<OwnedFd>>,
    pub(super) group: GroupLimits,
    pub(super) held: Vec<Held>,
    /// Gets the pid and a pidfd of the run's process, if the request asks the init for them.
    pub(super) forked: Option<ReplySender<(u32, OwnedFd)>>,
    pub(super) outcome: ReplySender<Report>,
    /// Until when the run waits for the kernel to free memory of earlier runs.
    pub(super) memory_deadline: Option<Instant>,
    /// Resolves when the run is to be killed. `Err` means that the caller dropped its handle.
    pub(super) killed: oneshot::Receiver<KillReason>,
}
