//! The group of one container's runs, in cgroup v1 or v2.

use std::io;
use std::os::fd::BorrowedFd;

use crate::error::Failure;
use crate::limits::GroupLimits;
use crate::wire::{Ids, Measurement};

use super::directory::remove_group;
use super::hierarchy::Hierarchy;
use super::join_request::JoinRequest;
use super::v1::V1Group;
use super::v2::V2Group;

#[derive(Debug)]
pub(crate) enum RunGroup {
    V1(V1Group),
    V2(V2Group),
}

impl RunGroup {
    pub(crate) fn new(hierarchy: Hierarchy) -> Result<Self, Failure> {
        match hierarchy {
            Hierarchy::V1(hierarchies) => Ok(Self::V1(V1Group::new(hierarchies))),
            Hierarchy::V2(parent) => Ok(Self::V2(V2Group::new(&parent)?)),
        }
    }

    /// Allows an init with these ids on the host to clone its runs into the group.
    pub(crate) fn delegate_to(&mut self, init: Ids) -> Result<(), Failure> {
        match self {
            // The runs enter through files that this process has opened.
            Self::V1(_) => Ok(()),
            Self::V2(group) => group.delegate_to(init),
        }
    }

    /// The directory that the init is cloned into. `None` in cgroup v1.
    pub(crate) fn init_directory(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::V1(_) => None,
            Self::V2(group) => Some(group.init_directory()),
        }
    }

    /// Makes the group ready for a run with these limits.
    ///
    /// Returns what the init must be told before the run. `None` if the init knows the group
    /// already.
    pub(crate) fn prepare(&mut self, limits: &GroupLimits) -> Result<Option<JoinRequest>, Failure> {
        match self {
            Self::V1(group) => group.prepare(limits),
            Self::V2(group) => group.prepare(limits),
        }
    }

    /// Learns what a run has used. The next run gets a new group if a counter cannot start anew in
    /// this one.
    pub(crate) fn finish_run(&mut self, measured: &Measurement) {
        let peak = measured.group.as_ref().and_then(|figures| figures.processes_peak);
        // Every run has at least one process, so a peak of 1 is right for the next run too.
        if peak.is_some_and(|peak| peak > 1) {
            match self {
                Self::V1(group) => group.invalidate_process_counter(),
                Self::V2(group) => group.invalidate_run(),
            }
        }
    }

    /// Has the next run make anew what has disappeared.
    pub(crate) fn invalidate(&mut self) {
        match self {
            Self::V1(group) => group.invalidate(),
            Self::V2(group) => group.invalidate_run(),
        }
    }

    /// Lifts the CPU rate, before processes are killed.
    ///
    /// A killed process dies only when it may use a CPU again. Under a CPU rate, a process inside
    /// the kernel runs up a debt of CPU time that the rest of its group pays, for minutes.
    pub(crate) fn lift_rate(&self) {
        let lifted = match self {
            Self::V1(group) => group.lift_rate(),
            Self::V2(group) => group.lift_rate(),
        };
        match lifted {
            // The group has been removed.
            Ok(()) | Err(Failure { errno: libc::ENOENT | libc::ENODEV, .. }) => {}
            // The container is at its end, so no caller is left to get an error.
            Err(failure) => eprintln!("cellblock: killed processes may be slow to die: {failure}"),
        }
    }

    /// Removes the group. `EBUSY` if the last processes are still exiting: the caller retries.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self {
            Self::V1(group) => group.directories().try_for_each(|directory| remove_group(&directory.path)),
            Self::V2(group) => remove_group(&group.directory().path),
        }
    }
}

impl Drop for RunGroup {
    /// The processes of the group are being killed.
    fn drop(&mut self) {
        self.lift_rate();
    }
}
