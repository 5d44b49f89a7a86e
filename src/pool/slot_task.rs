//! The task of one slot: builds a container, offers it, resets it after each lease, replaces it.
//!
//! Invariant: a slot is in the pool's state from before its task starts until its container is
//! destroyed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::container::Container;
use crate::error::{ErrorKind, Result};
use crate::observe::{self, Event, Phase, Timer};

use super::inner::Inner;

/// The pause after a failed build. It doubles with each failure, up to 64 times this.
const BACKOFF: Duration = Duration::from_millis(50);

/// Sets the size of a pool, and starts the tasks of the slots that it gains.
pub(super) fn resize(inner: &Arc<Inner>, size: usize) {
    let added = inner.state().resize(size);
    inner.notify();
    for slot in added {
        inner.runtime.spawn(SlotTask::new(inner, slot).run());
    }
}

/// Adds a slot whose container is built already. The container can be leased at once.
pub(super) fn start_with(inner: &Arc<Inner>, slot: usize, container: Container) {
    inner.state().add_slot(slot);
    let mut task = SlotTask::new(inner, slot);
    let container = task.offer(container);
    inner.runtime.spawn(async move {
        task.serve(container).await;
        task.run().await;
    });
}

struct SlotTask {
    inner: Arc<Inner>,
    slot: usize,
    changes: watch::Receiver<()>,
}

impl SlotTask {
    fn new(inner: &Arc<Inner>, slot: usize) -> Self {
        Self { inner: Arc::clone(inner), slot, changes: inner.subscribe() }
    }

    /// Builds and serves one container after another, until the slot is surplus.
    async fn run(mut self) {
        let mut failures = 0;
        while !self.inner.state().remove_if_surplus(self.slot) {
            match self.build().await {
                Ok(Some(container)) => {
                    failures = 0;
                    let container = self.offer(container);
                    self.serve(container).await;
                }
                Ok(None) => {}
                Err(error) => {
                    observe::count(Event::FailedBuild);
                    self.inner.state().record_build_error(self.slot, error);
                    self.back_off(BACKOFF * (1 << failures.min(6))).await;
                    failures += 1;
                }
            }
        }
        self.inner.notify();
    }

    /// Builds a container when its turn has come. `None` if the slot is surplus by then.
    async fn build(&self) -> Result<Option<Container>> {
        // The semaphore is never closed.
        let _permit = self.inner.builds.acquire().await;
        if self.is_surplus() {
            return Ok(None);
        }
        let timer = Timer::start();
        let container = self.inner.builder.build().await?;
        timer.stop(Phase::Build);
        Ok(Some(container))
    }

    /// Makes a container available for leases.
    fn offer(&self, container: Container) -> Container {
        let cpus = &self.inner.cpus;
        let cpu = if cpus.is_empty() { None } else { Some(cpus[self.slot % cpus.len()]) };
        let container = container.in_slot(self.slot, cpu);
        self.inner.state().offer(self.slot, container.clone());
        container
    }

    /// Serves leases of an offered container to the container's end.
    async fn serve(&mut self, container: Container) {
        self.serve_leases(container).await;
        self.inner.state().start_rebuild(self.slot);
        if !self.is_surplus() {
            observe::count(Event::Replaced);
        }
    }

    /// Resets the container after each lease and offers it again. Destroys it once it is dead,
    /// cannot be reset, or is surplus.
    async fn serve_leases(&mut self, mut container: Container) {
        while self.wait_until_returned(&container).await && container.can_be_lent_again() && !self.is_surplus() {
            let timer = Timer::start();
            // After a failed reset it is unknown what the runs have left.
            let Ok(next) = container.renew().await else { break };
            container = self.offer(next);
            timer.stop(Phase::Reset);
        }
        container.retire().await;
    }

    /// Waits until a lease of the container is over.
    ///
    /// Returns `false` if the container must not be leased again: it is dead, the deadline of a
    /// shutdown has passed, or it was idle and surplus.
    async fn wait_until_returned(&mut self, container: &Container) -> bool {
        loop {
            let kill_at = self.inner.state().kill_at();
            tokio::select! {
                reason = container.death() => {
                    self.inner.state().start_return(self.slot);
                    return reason.kind() == ErrorKind::Returned;
                }
                () = reached(kill_at) => return false,
                _ = self.changes.changed() => {
                    if self.inner.state().evict_if_surplus(self.slot) {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits for this long, or until the slot is surplus.
    async fn back_off(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_surplus() {
            tokio::select! {
                () = sleep_until(end) => return,
                _ = self.changes.changed() => {}
            }
        }
    }

    fn is_surplus(&self) -> bool {
        self.inner.state().is_surplus(self.slot)
    }
}

/// Completes at the deadline, or never if there is none.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
