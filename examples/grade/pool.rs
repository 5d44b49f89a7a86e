//! A few containers, lent out one at a time: what the example needs of a pool, and no more.
//!
//! Invariant: a container that is lent is as good as new, and each is lent to one caller at a time. It is reset after its
//! lease, off the caller's path, and built anew where that failed.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cellblock::{Builder, Container, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A handle to the containers, cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    recipe: Builder,
    /// One permit for each container that waits to be lent. Tokio's semaphore is fair, and so is the pool.
    ready: Arc<Semaphore>,
    slots: Mutex<Vec<Slot>>,
}

struct Slot {
    container: Container,
    is_idle: bool,
}

impl Pool {
    /// A pool of containers of this kind.
    pub fn builder(recipe: Builder) -> PoolBuilder {
        PoolBuilder { recipe, size: 1 }
    }

    /// The next container that is free, in the order of those who asked; the failure of the pool that was shut down.
    pub async fn lease(&self) -> Result<Lease, PoolIsShut> {
        let permit = Arc::clone(&self.0.ready).acquire_owned().await.map_err(|_| PoolIsShut)?;
        let mut slots = self.0.slots();
        let idle = slots.iter_mut().enumerate().find(|(_, slot)| slot.is_idle);
        let (number, slot) = idle.ok_or(PoolIsShut)?;
        slot.is_idle = false;
        let container = slot.container.clone();
        Ok(Lease { container, number, permit: Some(permit), pool: self.clone() })
    }

    /// Destroys every container, whoever has it, and returns when they are gone.
    pub async fn shut_down(&self) {
        self.0.ready.close();
        let containers: Vec<_> = self.0.slots().iter().map(|slot| slot.container.clone()).collect();
        futures::future::join_all(containers.iter().map(Container::destroy)).await;
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a container as good as new, or another in its place. A machine that builds none any more leaves the slot
    /// with a dead one, whose next user is told why.
    async fn renew(&self, number: usize, container: Container) {
        let renewed = match container.reset().await {
            Err(_) if !self.ready.is_closed() => {
                container.destroy().await;
                self.recipe.clone().build().await.unwrap_or(container)
            }
            _ => container,
        };
        if self.ready.is_closed() {
            renewed.destroy().await;
        }
        self.slots()[number] = Slot { container: renewed, is_idle: true };
    }
}

/// How large a pool is to be.
pub struct PoolBuilder {
    recipe: Builder,
    size: usize,
}

impl PoolBuilder {
    /// Sets how many containers there are. Default: one.
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Builds the containers, all at once.
    pub async fn build(self) -> Result<Pool, Error> {
        let containers = futures::future::try_join_all(
            std::iter::repeat_n(self.recipe.clone(), self.size).map(async |recipe| recipe.build().await),
        )
        .await?;
        let slots = containers.into_iter().map(|container| Slot { container, is_idle: true }).collect();
        let ready = Arc::new(Semaphore::new(self.size));
        Ok(Pool(Arc::new(Shared { recipe: self.recipe, ready, slots: Mutex::new(slots) })))
    }
}

/// A container for a while. Dropping it gives it back.
pub struct Lease {
    container: Container,
    number: usize,
    permit: Option<OwnedSemaphorePermit>,
    pool: Pool,
}

impl Lease {
    /// Which of the pool's containers it is, from 0.
    #[allow(dead_code, reason = "the service draws no timeline")]
    pub fn slot(&self) -> usize {
        self.number
    }
}

impl Deref for Lease {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (pool, container, number) = (self.pool.clone(), self.container.clone(), self.number);
        let permit = self.permit.take();
        tokio::spawn(async move {
            pool.0.renew(number, container).await;
            drop(permit);
        });
    }
}

/// The pool was shut down, and lends nothing any more.
#[derive(Debug)]
pub struct PoolIsShut;

impl std::fmt::Display for PoolIsShut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the pool was shut down")
    }
}

impl std::error::Error for PoolIsShut {}
