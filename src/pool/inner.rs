//! What the handles and the slot tasks of a pool share.
//!
//! Invariant: [`State`] is changed under one lock, and nothing is awaited under it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::container::ContainerBuilder;
use crate::error::{Error, Result};
use crate::observe::{Phase, Timer};

use super::lease::Lease;
use super::request::LeaseRequest;
use super::retry::Retry;
use super::state::{Acquire, State, closed};

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) builder: ContainerBuilder,
    /// The CPUs that the containers are pinned to, in turn.
    pub(super) cpus: Vec<u32>,
    /// Bounds the builds that run at once: all at once would miss the deadline of a build.
    pub(super) builds: Semaphore,
    pub(super) retry: Retry,
    pub(super) runtime: Handle,
    state: Mutex<State>,
    /// Wakes the slot tasks when the size, the deadline or the number of slots changes.
    changes: watch::Sender<()>,
}

impl Inner {
    pub(super) fn new(builder: ContainerBuilder, cpus: Vec<u32>, builds: usize, retry: Retry, state: State) -> Self {
        Self {
            builder,
            cpus,
            builds: Semaphore::new(builds),
            retry,
            runtime: Handle::current(),
            state: Mutex::new(state),
            changes: watch::Sender::new(()),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No method of `State` panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn notify(&self) {
        self.changes.send_replace(());
    }

    /// Stops leasing now. At `kill_at` the slot tasks destroy the containers that are still leased.
    pub(super) fn close(&self, kill_at: Option<Instant>) {
        self.state().close(kill_at);
        self.notify();
    }

    pub(super) async fn acquire_one(&self, request: LeaseRequest) -> Result<Lease> {
        let lease = self.acquire(request).await?.pop();
        lease.ok_or_else(|| Error::lost("a lease of nothing"))
    }

    pub(super) async fn acquire_pair(&self, request: LeaseRequest) -> Result<(Lease, Lease)> {
        match <[Lease; 2]>::try_from(self.acquire(request).await?) {
            Ok([first, second]) => Ok((first, second)),
            Err(_) => Err(Error::lost("a lease of nothing")),
        }
    }

    async fn acquire(&self, request: LeaseRequest) -> Result<Vec<Lease>> {
        let timer = Timer::start();
        let acquired = self.state().acquire(request)?;
        let leases = match acquired {
            Acquire::Now(leases) => leases,
            Acquire::Queued { ticket, reply } => {
                let _place = QueuePlace { inner: self, ticket };
                // The sender is dropped only with the state.
                reply.await.unwrap_or_else(|_| Err(closed()))?
            }
        };
        timer.stop(Phase::Wait);
        Ok(leases)
    }
}

/// A place in the queue. Dropping the future that waits there cancels the request.
struct QueuePlace<'a> {
    inner: &'a Inner,
    ticket: u64,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.inner.state().cancel(self.ticket);
    }
}
