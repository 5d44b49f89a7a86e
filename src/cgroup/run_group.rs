//! The group of one container's runs, in cgroup v1 or v2.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Failure;
use crate::limits::GroupLimits;
use crate::log;
use crate::sys::in_background;
use crate::wire::{Ids, Measurement};

use super::directory::write_value;
use super::hierarchy::Hierarchy;
use super::join_request::JoinRequest;
use super::v1::{V1Group, V1Hierarchies};
use super::v2::{V2Group, V2Parent};

#[derive(Debug)]
pub(crate) enum RunGroup {
    V1(V1Group),
    V2(V2Group),
}

impl RunGroup {
    pub(crate) fn new(hierarchy: Hierarchy) -> Result<Self, Failure> {
        match hierarchy {
            Hierarchy::V1(hierarchies) => Ok(Self::V1(V1Group::new(hierarchies))),
            Hierarchy::V2(parent) => Ok(Self::V2(V2Group::new(parent)?)),
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
            Self::V2(group) => group.init_directory(),
        }
    }

    /// Where the group of a run beside those of this group can be made.
    pub(crate) fn place_beside(&self) -> PlaceBeside {
        match self {
            Self::V1(group) => PlaceBeside::V1(group.hierarchies()),
            Self::V2(group) => {
                let (path, parent, owner) = group.place_beside();
                PlaceBeside::V2 { path, parent, owner }
            }
        }
    }

    /// Whether a run with these limits can begin: nothing has to be made, removed or written.
    pub(crate) fn is_ready(&self, limits: &GroupLimits) -> bool {
        match self {
            Self::V1(group) => group.is_ready(limits),
            Self::V2(group) => group.is_ready(limits),
        }
    }

    /// Makes the group ready for a run with these limits. That may block for seconds, while the
    /// kernel frees memory.
    pub(crate) fn prepare(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        match self {
            Self::V1(group) => group.prepare(limits),
            Self::V2(group) => group.prepare(limits),
        }
    }

    /// What the init must be told before the next run. `None` if the init knows the group.
    pub(crate) fn take_join(&mut self) -> Option<JoinRequest> {
        match self {
            Self::V1(group) => group.take_join(),
            Self::V2(group) => group.take_join(),
        }
    }

    /// Notes that a run is about to begin in this group, which is ready for it.
    pub(crate) fn begin_run(&mut self) {
        match self {
            Self::V1(group) => group.begin_run(),
            Self::V2(group) => group.begin_run(),
        }
    }

    /// Learns what a run has used. The next run gets a new group if a counter cannot start anew in
    /// this one, or if more than a little memory is charged to it.
    pub(crate) fn finish_run(&mut self, measured: &Measurement) {
        let peak = measured.group.as_ref().and_then(|figures| figures.processes_peak);
        // Every run has at least one process, so a peak of 1 is right for the next run too.
        if peak.is_some_and(|peak| peak > 1) {
            match self {
                Self::V1(group) => group.invalidate_process_counter(),
                Self::V2(group) => group.invalidate_run(),
            }
        }
        match self {
            Self::V1(group) => group.invalidate_charged_run(),
            Self::V2(group) => group.invalidate_charged_run(),
        }
    }

    /// Has the next run make the group anew that memory is charged to. Kernel memory that earlier
    /// runs left, such as directory entries, counts for it no longer.
    pub(crate) fn invalidate_memory(&mut self) {
        match self {
            Self::V1(group) => group.invalidate_memory(),
            Self::V2(group) => group.invalidate_box(),
        }
    }

    /// Has the next run make anew what has disappeared.
    pub(crate) fn invalidate(&mut self) {
        match self {
            Self::V1(group) => group.invalidate(),
            Self::V2(group) => group.invalidate_box(),
        }
    }

    /// Whether [`lift_rate`](Self::lift_rate) has something to do.
    pub(crate) fn has_rate(&self) -> bool {
        !self.rate_files().is_empty()
    }

    /// Lifts the CPU rate, before processes are killed. May block.
    ///
    /// A killed process dies only when it may use a CPU again. Under a CPU rate, a process inside
    /// the kernel runs up a debt of CPU time that the rest of its group pays, for minutes.
    pub(crate) fn lift_rate(&self) {
        lift_rates(&self.rate_files());
    }

    /// Removes the group. May block.
    pub(crate) fn remove(mut self) {
        match &mut self {
            Self::V1(group) => group.remove(),
            Self::V2(group) => group.remove(),
        }
    }

    fn rate_files(&self) -> Vec<(PathBuf, &'static str)> {
        match self {
            Self::V1(group) => group.rate_files(),
            Self::V2(group) => group.rate_files(),
        }
    }
}

/// See [`RunGroup::place_beside`].
#[derive(Debug)]
pub(crate) enum PlaceBeside {
    V1(Arc<V1Hierarchies>),
    /// Below this path.
    V2 {
        path: PathBuf,
        parent: Arc<V2Parent>,
        owner: Option<Ids>,
    },
}

impl PlaceBeside {
    /// Makes the group. May block.
    pub(crate) fn make(self) -> Result<RunGroup, Failure> {
        match self {
            Self::V1(hierarchies) => Ok(RunGroup::V1(V1Group::new(hierarchies))),
            Self::V2 { path, parent, owner } => Ok(RunGroup::V2(V2Group::beside(&path, parent, owner)?)),
        }
    }
}

fn lift_rates(files: &[(PathBuf, &str)]) {
    match files.iter().try_for_each(|(file, none)| write_value(file, none)) {
        // The group has been removed.
        Ok(()) | Err(Failure { errno: libc::ENOENT | libc::ENODEV, .. }) => {}
        // The container is at its end, so no caller is left to get an error.
        Err(failure) => log::warn("killed processes may be slow to die", &failure),
    }
}

impl Drop for RunGroup {
    /// The processes of the group are being killed.
    fn drop(&mut self) {
        let files = self.rate_files();
        if !files.is_empty() {
            in_background(move || {
                lift_rates(&files);
                Ok(())
            });
        }
    }
}
