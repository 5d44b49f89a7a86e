//! The control group of the runs, and the work on it that may block.
//!
//! Invariant: no file of a group is written or removed on the runtime's thread, and no group is
//! made there, while the runtime lives. A blocking thread has the group meanwhile, and no run
//! begins before the group is back. The work for the next run starts when a run or a reset is over,
//! so the next run seldom waits. If that work fails, it is done again for the next run, which gets
//! the error if it fails again.
//!
//! The runtime may be dropped together with the container. The group is removed then if no process
//! is in it, and in the background otherwise. If this process exits before that, the next host
//! removes the group.

use std::future::pending;

use tokio::task::{JoinHandle, spawn_blocking};

use crate::cgroup::{JoinRequest, PlaceBeside, RunGroup};
use crate::error::{Error, Failure, Result};
use crate::limits::GroupLimits;
use crate::wire::Measurement;

pub(super) struct GroupWorker {
    place: Place,
    /// The limits of the last run, which are those of the next run too in most cases.
    last: GroupLimits,
    /// Whether a run has begun since the memory group was made.
    is_used: bool,
    /// Whether the memory group is to be made anew once the group is back.
    is_outdated: bool,
}

enum Place {
    /// This process may make no groups.
    Nowhere,
    Here(Box<RunGroup>),
    Away(JoinHandle<Prepared>),
}

/// A group that is back, the limits that it was prepared for, and whether that worked.
pub(super) struct Prepared {
    group: Box<RunGroup>,
    limits: GroupLimits,
    result: Result<(), Failure>,
}

impl GroupWorker {
    pub(super) fn new(group: Option<RunGroup>) -> Self {
        let place = group.map_or(Place::Nowhere, |group| Place::Here(Box::new(group)));
        Self { place, last: GroupLimits::default(), is_used: false, is_outdated: false }
    }

    /// Whether a run with these limits can begin. If not, the group is being prepared: it comes
    /// [back](Self::back).
    pub(super) fn begin_run(&mut self, limits: &GroupLimits) -> bool {
        match &mut self.place {
            Place::Nowhere => return true,
            Place::Away(_) => return false,
            Place::Here(group) if group.is_ready(limits) => {
                group.begin_run();
                self.is_used = true;
                return true;
            }
            Place::Here(_) => {}
        }
        self.last.clone_from(limits);
        self.prepare();
        false
    }

    /// Where the group of a run beside the current one can be made. `None`: the runs have no
    /// groups.
    pub(super) fn place_beside(&self) -> Option<PlaceBeside> {
        match &self.place {
            Place::Here(group) => Some(group.place_beside()),
            Place::Nowhere | Place::Away(_) => None,
        }
    }

    /// Learns what a run has used.
    pub(super) fn finish_run(&mut self, measured: &Measurement) {
        if let Place::Here(group) = &mut self.place {
            group.finish_run(measured);
        }
        self.prepare();
    }

    /// Has the next run make the group anew, which another process has removed.
    pub(super) fn invalidate(&mut self) {
        if let Place::Here(group) = &mut self.place {
            group.invalidate();
        }
    }

    /// Gives the next run another memory group than the runs so far had.
    pub(super) fn renew_memory(&mut self) {
        if std::mem::take(&mut self.is_used) {
            self.is_outdated = true;
            self.prepare();
        }
    }

    /// Resolves when the group is back. `Err` is the reason to end the container. Dropping the
    /// future loses nothing.
    pub(super) async fn back(&mut self) -> Result<Prepared> {
        match &mut self.place {
            Place::Away(task) => task.await.map_err(|error| Error::lost(format!("the control group is lost: {error}"))),
            Place::Nowhere | Place::Here(_) => pending().await,
        }
    }

    /// Takes the group that is back. Returns the failure of its preparation, with the limits that
    /// it was prepared for.
    pub(super) fn take_back(&mut self, prepared: Prepared) -> Option<(GroupLimits, Failure)> {
        let Prepared { mut group, limits, result } = prepared;
        if matches!(result, Err(Failure { errno: libc::ENOENT | libc::ENODEV, .. })) {
            // Another process has removed the group.
            group.invalidate();
        }
        self.place = Place::Here(group);
        let failure = result.err().map(|failure| (limits, failure));
        if self.is_outdated {
            self.prepare();
        }
        failure
    }

    /// What the init must be told of a group that is back, before the next run.
    pub(super) fn take_join(&mut self) -> Option<JoinRequest> {
        match &mut self.place {
            Place::Here(group) => group.take_join(),
            Place::Nowhere | Place::Away(_) => None,
        }
    }

    /// Lifts the CPU rate before the processes of the container are killed. While the group is away
    /// no run is going on.
    pub(super) async fn lift_rate(&mut self) {
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Here(group) if group.has_rate() => {
                let lifted = spawn_blocking(move || {
                    group.lift_rate();
                    group
                });
                // Without a runtime the group is dropped, which lifts the rate too.
                self.place = lifted.await.map_or(Place::Nowhere, Place::Here);
            }
            place => self.place = place,
        }
    }

    /// Removes the group, whose processes are dead.
    pub(super) async fn remove(self) {
        let group = match self.place {
            Place::Nowhere => None,
            Place::Here(group) => Some(group),
            Place::Away(task) => task.await.ok().map(|prepared| prepared.group),
        };
        if let Some(group) = group {
            // Without a runtime the group is dropped, which removes it.
            spawn_blocking(move || group.remove()).await.ok();
        }
    }

    /// Prepares the group for another run with the last limits, if anything has to be done.
    fn prepare(&mut self) {
        let Place::Here(group) = &mut self.place else { return };
        if std::mem::take(&mut self.is_outdated) {
            group.invalidate_memory();
        }
        if group.is_ready(&self.last) {
            return;
        }
        let Place::Here(mut group) = std::mem::replace(&mut self.place, Place::Nowhere) else { return };
        let limits = self.last.clone();
        self.place = Place::Away(spawn_blocking(move || {
            let result = group.prepare(&limits);
            Prepared { group, limits, result }
        }));
    }
}
