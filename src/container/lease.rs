//! A container on loan: what its pool does with it, and the caller's handles cannot.
//!
//! Invariant: the handles of one lease share one record of their death. Once that is set they are dead for good; the actor
//! listens to those of one lease at a time, so nothing that an earlier one sends, however late, reaches the next.

use std::sync::{Arc, LazyLock};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::LeaseLimits;
use crate::seccomp::Filter;

use super::actor::Message;
use super::{Container, Shared};

impl Container {
    /// This handle, whose runs are on this CPU unless they choose for themselves; so are those of the leases after it.
    pub(crate) fn on_cpu(self, cpu: Option<u32>) -> Self {
        Self { terms: LeaseLimits { cpu, ..self.terms }, ..self }
    }

    /// This handle, whose runs are limited to this much memory at most.
    pub(crate) fn with_memory(self, memory: Option<u64>) -> Self {
        Self { terms: LeaseLimits { memory, ..self.terms }, ..self }
    }

    /// Makes this handle and all its clones dead, at once. Whoever waits for their [death](Self::death) is woken.
    pub(crate) fn give_back(&self) {
        // A container that has ended has told them why.
        self.shared.death.set(returned()).ok();
    }

    /// Sees to it that this container is not lent again: it ends, whatever waits in its mailbox.
    pub(crate) fn condemn(&self) {
        self.shared.end.cancel();
    }

    /// Ends what the handles so far had asked for, makes the container as good as new and gives the first handle of the
    /// next lease.
    pub(crate) async fn renew(&self) -> Result<Self> {
        let next = Self { shared: Arc::new(Shared::default()), ..self.clone() };
        let (answer, done) = oneshot::channel();
        self.post(Message::Renew(Arc::clone(&next.shared), answer)).await?;
        // Where the container ended before it read this, the new handle has no record of it.
        let reset = done.await.unwrap_or_else(|_| Err(Error::lost("it ended while it was to be reset")));
        // Nobody else has the handle that the actor listens to now.
        reset.inspect_err(|_| next.condemn())?;
        Ok(next)
    }

    /// Destroys the container, also where its lease is over, and returns when the init is reaped.
    pub(crate) async fn retire(&self) {
        self.condemn();
        // The actor lets go of its mailbox last.
        self.mailbox.closed().await;
    }

    /// Whether a reset takes back all that a run could do. Without the filter a program may leave keys with its user, whom
    /// the next run has too; and where that is the init's user as well, change the init's limits and priorities for good.
    pub(crate) fn can_be_lent_again(&self) -> bool {
        self.made.protections.filter != Filter::Off
    }

    /// Whether every call would be an error.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.death.initialized()
    }
}

/// Why the handles of a lease are dead that is over.
pub(super) fn returned() -> Error {
    static RETURNED: LazyLock<Error> =
        LazyLock::new(|| Error::new(ErrorKind::Returned, Step::Serve).detail("its container went back to the pool"));
    RETURNED.clone()
}
