//! A container on loan, in its holder's hands.
//!
//! Invariant: a lease is over when this value is dropped: every handle that was cloned from it is dead from then on.

use std::ops::Deref;

use crate::container::Container;
use crate::observe::{self, Event, Phase, Timer};

/// A container on loan from a [`Pool`](super::Pool), as good as new when it was lent.
///
/// Dropping it returns the container, which is reset and lent again; its holder does not wait for that. What still runs is
/// killed, and every call on a [`Container`] that was cloned from the lease gives
/// [`ErrorKind::Returned`](crate::ErrorKind::Returned) from then on. A container that has died, or cannot be reset, is
/// replaced; so is one without a [filter](crate::ContainerBuilder::filter), where a program could leave what no reset takes back.
#[derive(Debug)]
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

    /// The number of the container's slot, from 0: one that replaces another has the same.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Gives the container up: it is destroyed, and replaced by a new one.
    pub fn discard(self) {
        self.container.condemn();
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
