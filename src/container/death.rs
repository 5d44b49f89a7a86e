//! The record of a container's death, shared by its handles, its processes and its actor.
//!
//! Invariant: the reason is set once. In a pool each lease has a record of its own. The end of the
//! lease sets the reason, so the handles of that lease are dead for good. The actor accepts
//! messages of one record at a time, so nothing that an earlier lease sends reaches the next.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Step};

/// Why the handles that share this record are dead, if they are.
#[derive(Debug, Default)]
pub(crate) struct DeathRecord {
    /// Asks the actor to end, ahead of the messages in its mailbox.
    end: CancellationToken,
    /// Set when the init is reaped, or when the lease is over.
    reason: SetOnce<Error>,
}

impl DeathRecord {
    /// The reason, once it is set.
    pub(crate) fn reason(&self) -> Option<&Error> {
        self.reason.get()
    }

    /// Waits for the reason. Dropping the future loses nothing.
    pub(crate) async fn wait(&self) -> Error {
        self.reason.wait().await.clone()
    }

    /// Asks the actor to end the container.
    pub(super) fn request_end(&self) {
        self.end.cancel();
    }

    pub(super) fn is_end_requested(&self) -> bool {
        self.end.is_cancelled()
    }

    /// Resolves once the end is requested. Dropping the future loses nothing.
    pub(super) async fn end_requested(&self) {
        self.end.cancelled().await;
    }

    /// Sets the reason, unless it is set already.
    pub(super) fn set(&self, reason: Error) {
        self.reason.set(reason).ok();
    }

    /// Ends the lease: the handles of this record are dead. No effect if the container has died.
    pub(super) fn end_lease(&self) {
        static RETURNED: LazyLock<Error> = LazyLock::new(|| {
            Error::new(ErrorKind::Returned, Step::Serve).detail("its container went back to the pool")
        });
        self.set(RETURNED.clone());
    }
}

/// The actor's hold on the record that it serves. Its drop sets a reason, so the handles learn of
/// the death also if the actor's task panics or is dropped with its runtime.
pub(super) struct DeathGuard(Arc<DeathRecord>);

impl DeathGuard {
    pub(super) fn new(record: Arc<DeathRecord>) -> Self {
        Self(record)
    }

    /// Whether this is the record that the actor serves.
    pub(super) fn is_for(&self, record: &Arc<DeathRecord>) -> bool {
        Arc::ptr_eq(&self.0, record)
    }

    /// Ends the lease of this record, and serves the next one.
    pub(super) fn replace(&mut self, next: Arc<DeathRecord>) {
        self.end_lease();
        self.0 = next;
    }
}

impl Deref for DeathGuard {
    type Target = DeathRecord;

    fn deref(&self) -> &DeathRecord {
        &self.0
    }
}

impl Drop for DeathGuard {
    fn drop(&mut self) {
        self.set(Error::lost("its runtime ended, or its task panicked"));
    }
}
