//! What a pool does with a container on lease, and the caller's handles cannot do.
//!
//! Invariant: the handles of one lease share one [`DeathRecord`](super::death::DeathRecord). Once
//! its reason is set they are dead for good.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::limits::LeaseLimits;
use crate::seccomp::Filter;

use super::handle::Container;
use super::message::{Message, Operation};

impl Container {
    /// This handle, in this slot of a pool, with its runs and the runs of the leases after it on
    /// this CPU, unless a command sets CPUs itself.
    pub(crate) fn in_slot(self, slot: usize, cpu: Option<u32>) -> Self {
        Self { lease: LeaseLimits { cpu, ..self.lease }, slot: Some(slot), ..self }
    }

    /// This handle, with its runs limited to this many bytes of memory at most.
    pub(crate) fn with_memory(self, memory: Option<u64>) -> Self {
        Self { lease: LeaseLimits { memory, ..self.lease }, ..self }
    }

    /// Kills this handle and all its clones at once, and wakes the callers of
    /// [`death`](Self::death).
    pub(crate) fn give_back(&self) {
        self.mailbox.record().end_lease();
    }

    /// Ends this container ahead of the messages in its mailbox, so that it is not leased again.
    pub(crate) fn condemn(&self) {
        self.mailbox.record().request_end();
    }

    /// Ends the lease of the handles so far, resets the container and returns the first handle of
    /// the next lease.
    pub(crate) async fn renew(&self) -> Result<Self> {
        let next = Self { mailbox: self.mailbox.for_next_lease(), ..self.clone() };
        let (sender, done) = oneshot::channel();
        self.mailbox.send_unchecked(Message::Renew(Arc::clone(next.mailbox.record()), sender)).await?;
        // If the container ends before it reads this message, the new handle's record has no
        // reason.
        let reset = done.await.unwrap_or_else(|_| Err(Error::lost("it ended while it was to be reset")));
        // No other handle has the record that the actor serves now.
        reset.inspect_err(|_| next.condemn())?;
        Ok(next)
    }

    /// Destroys the container, also after the end of its lease, and returns when the init is
    /// reaped.
    pub(crate) async fn retire(&self) {
        self.condemn();
        self.mailbox.closed().await;
    }

    /// Makes the present state of the file systems the one that resets restore. Waits for the runs
    /// before it. After a failure the container is destroyed.
    pub(crate) async fn freeze(&self) -> Result<()> {
        self.mailbox.call(|sender| Message::Queue(Operation::Freeze(sender))).await
    }

    /// Whether a reset undoes all that a run could do. Without the filter a program may leave keys
    /// with its user, which the next run has too. If that is also the init's user, a program may
    /// change the init's limits and priorities for good.
    pub(crate) fn can_be_lent_again(&self) -> bool {
        self.info.protections.filter != Filter::Off
    }

    /// Whether every call returns an error.
    pub(crate) fn is_dead(&self) -> bool {
        self.mailbox.record().reason().is_some()
    }
}
