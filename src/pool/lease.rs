//! A container on lease, in the hands of its caller.
//!
//! Invariant: dropping the lease ends it. From then on all handles cloned from it are dead.

use std::ops::Deref;

use crate::container::Container;
use crate::observe::{self, Event, Phase, Timer};

/// A freshly reset container on lease from a [`Pool`](crate::Pool).
///
/// A lease derefs to [`Container`]. Dropping it returns the container to the pool, which kills what
/// still runs, resets the container and leases it again. The caller does not wait for that. Every
/// call on a [`Container`] that was cloned from the lease gives
/// [`ErrorKind::Returned`](crate::ErrorKind::Returned) from then on.
///
/// The pool replaces a container that has died or cannot be reset. It also replaces a container
/// without a [filter](crate::ContainerBuilder::filter), because programs can change things there
/// that no reset takes back.
#[derive(Debug)]
#[must_use = "dropping a lease returns its container to the pool"]
pub struct Lease {
    slot: usize,
    container: Container,
    timer: Timer,
}

impl Lease {
    pub(super) fn new(slot: usize, container: Container) -> Self {
        observe::count(Event::Lease);
        Self { slot, container, timer: Timer::start() }
    }

    /// The number of the container's slot in the pool, from 0.
    ///
    /// A container that replaces another one has the same slot.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Ends the lease and has the pool replace the container instead of resetting it.
    ///
    /// This is an associated function, called as `Lease::discard(lease)`, because a lease derefs to
    /// [`Container`].
    ///
    /// ```no_run
    /// # async fn example(pool: cellblock::Pool) -> cellblock::Result<()> {
    /// use std::time::Duration;
    /// use cellblock::Lease;
    ///
    /// let lease = pool.lease().await?;
    /// if lease.ping(Duration::from_millis(100)).await.is_err() {
    ///     Lease::discard(lease);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn discard(lease: Self) {
        lease.container.condemn();
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
        self.container.give_back();
        self.timer.stop(Phase::Lease);
    }
}
