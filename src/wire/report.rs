//! What the init measured of a run.
//!
//! Invariant: an init is not trusted. Every value of these types is safe to receive; only
//! [`WaitStatus::is_end`] has to be checked before a status is used.

use serde::{Deserialize, Serialize};

/// A run that has ended. Times are in whole microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// How the program's first process ended.
    pub(crate) status: WaitStatus,
    /// Why the run was killed, if it was.
    pub(crate) killed: Option<KillReason>,
    /// By the init's monotonic clock, from just before the clone until no process was left.
    pub(crate) wall_us: u64,
    /// By the same clock, from the receipt of the run until the execution of the program.
    pub(crate) set_up_us: Option<u64>,
    /// From wait4(2), of all the processes that the init reaped.
    pub(crate) user_us: u64,
    /// From wait4(2), as above.
    pub(crate) system_us: u64,
    /// From wait4(2), the largest resident set of any one process.
    pub(crate) peak_resident_bytes: u64,
    /// What the run's control group counted, if the run had one.
    pub(crate) group: Option<GroupFigures>,
}

/// What a control group counted of a run. A figure that the group does not count is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupFigures {
    pub(crate) version: CgroupVersion,
    pub(crate) cpu_us: Option<u64>,
    /// With the little that may have been charged before the run.
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) processes_peak: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
    pub(crate) refused_forks: Option<u64>,
    pub(crate) throttled_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CgroupVersion {
    V1,
    V2,
}

/// Why a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KillReason {
    /// It used up its CPU time.
    CpuTime,
    /// It used up its wall time.
    WallTime,
    /// It wrote more than its output limit.
    Output,
    /// The caller asked for it, or dropped its handle.
    Request,
    /// The run that it was beside has ended.
    MainEnded,
}

/// A status as wait4(2) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitStatus(pub(crate) i32);

impl WaitStatus {
    /// Whether the kernel gives this status for a process that has ended.
    pub(crate) fn is_end(self) -> bool {
        match self.0 & 0x7f {
            // An exit, with its code in the second byte.
            0 => self.0 & !0xff00 == 0,
            // A signal; the eighth bit says that the process dumped core.
            1..=64 => self.0 & !0xff == 0,
            _ => false,
        }
    }
}

#[cfg(test)]
impl WaitStatus {
    pub(crate) const fn exited(code: i32) -> Self {
        Self(code << 8)
    }

    pub(crate) const fn signaled(signal: i32, core_dumped: bool) -> Self {
        Self(signal | if core_dumped { 0x80 } else { 0 })
    }
}

#[cfg(test)]
impl Measurement {
    pub(crate) fn of(status: WaitStatus) -> Self {
        Self {
            status,
            killed: None,
            wall_us: 0,
            set_up_us: None,
            user_us: 0,
            system_us: 0,
            peak_resident_bytes: 0,
            group: None,
        }
    }
}
