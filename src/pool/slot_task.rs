//! The task that keeps one container of a pool: builds it, offers it, resets it when it comes back, and replaces it.
//!
//! Invariant: a keeper's number is in the pool's state from before it starts until its container is destroyed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::container::Container;
use crate::error::{ErrorKind, Result};
use crate::observe::{self, Event, Phase, Timer};

use super::Inner;

/// How long after a failed build the next is tried. Doubled with each, up to 64 times this.
const BACKOFF: Duration = Duration::from_millis(50);

/// Starts the keeper of a number that has been entered. Its first container, if that is built, can be lent at once.
pub(super) fn start(inner: &Arc<Inner>, slot: usize, first: Option<Container>) {
    let keeper = SlotTask { inner: Arc::clone(inner), slot, bell: inner.bell.subscribe() };
    let first = first.map(|container| keeper.offer(container));
    inner.runtime.spawn(keeper.keep(first));
}

struct SlotTask {
    inner: Arc<Inner>,
    slot: usize,
    bell: watch::Receiver<()>,
}

impl SlotTask {
    async fn keep(mut self, mut first: Option<Container>) {
        let mut failures = 0;
        while !self.inner.state().leave(self.slot) {
            let built = match first.take() {
                Some(container) => Ok(Some(container)),
                None => self.build().await.map(|built| built.map(|container| self.offer(container))),
            };
            match built {
                Ok(None) => {}
                Ok(Some(container)) => {
                    failures = 0;
                    self.lend(container).await;
                    self.inner.state().lost(self.slot);
                    if !self.is_surplus() {
                        observe::count(Event::Replaced);
                    }
                }
                Err(error) => {
                    self.inner.state().broke(self.slot, error);
                    self.pause(BACKOFF * (1 << failures.min(6))).await;
                    failures += 1;
                }
            }
        }
        self.inner.bell.send_replace(());
    }

    /// Builds a container, unless none is wanted when its turn has come.
    async fn build(&self) -> Result<Option<Container>> {
        // It is never closed.
        let _permit = self.inner.builds.acquire().await;
        if self.is_surplus() {
            return Ok(None);
        }
        let timer = Timer::start();
        let container = self.inner.builder.build().await?;
        timer.stop(Phase::Build);
        Ok(Some(container))
    }

    fn is_surplus(&self) -> bool {
        self.inner.state().is_surplus(self.slot)
    }

    /// From now on the container can be lent.
    fn offer(&self, container: Container) -> Container {
        let cpus = &self.inner.cpus;
        let container = container.on_cpu((!cpus.is_empty()).then(|| cpus[self.slot % cpus.len()]));
        self.inner.state().offer(self.slot, container.clone());
        container
    }

    /// Lends a container time and again, until it is dead, doubtful or one too many. Then it is destroyed.
    async fn lend(&mut self, mut container: Container) {
        while self.is_back(&container).await && container.can_be_lent_again() && !self.is_surplus() {
            let timer = Timer::start();
            match container.renew().await {
                Ok(next) => container = self.offer(next),
                // Doubtful: what a run has left there cannot be told.
                Err(_) => break,
            }
            timer.stop(Phase::Reset);
        }
        container.retire().await;
    }

    /// Waits until the container comes back from a lease. `false` where it is not to be lent again.
    async fn is_back(&mut self, container: &Container) -> bool {
        loop {
            let kill_at = self.inner.state().kill_at();
            let overdue = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                reason = container.death() => {
                    self.inner.state().came_back(self.slot);
                    return reason.kind() == ErrorKind::Returned;
                }
                () = overdue => return false,
                _ = self.bell.changed() => if self.inner.state().withdraw(self.slot) {
                    return false;
                }
            }
        }
    }

    /// Waits this long, or until there are to be fewer containers.
    async fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_surplus() {
            tokio::select! {
                () = sleep_until(end) => return,
                _ = self.bell.changed() => {}
            }
        }
    }
}
