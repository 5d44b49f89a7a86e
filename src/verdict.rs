//! What a run's report amounts to.
//!
//! Invariant: a [`Verdict`] is a pure function of a [`Report`]. Whoever judges otherwise has the same evidence.

use serde::{Deserialize, Serialize};

use crate::limits::{Form, Limit};
use crate::report::{Cause, Report, Status};
use crate::seccomp::Filter;

/// What became of a run, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It exited with 0, within its limits.
    Ok,
    /// It exited with another code.
    NonzeroExit,
    /// A signal ended it that was not for a limit: its own, or a kill that its caller asked for.
    Signalled,
    /// It used more CPU time than it may.
    CpuTime,
    /// It took longer than it may.
    WallTime,
    /// It ran out of memory, or some process of it did.
    Memory,
    /// It wrote more than it may, to its outputs or to a file.
    Output,
    /// It was refused a process or thread, and did not get over that.
    Processes,
    /// It made a system call that ends a run.
    ForbiddenSyscall,
}

impl Verdict {
    /// Its name, as it serializes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NonzeroExit => "nonzero_exit",
            Self::Signalled => "signalled",
            Self::CpuTime => "cpu_time",
            Self::WallTime => "wall_time",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Processes => "processes",
            Self::ForbiddenSyscall => "forbidden_syscall",
        }
    }
}

impl Report {
    /// Judges the run. The first of these that is so counts:
    ///
    /// | verdict | where |
    /// |---|---|
    /// | `output` | it was killed for its output or had written too much, or `SIGXFSZ` ended it under a limit on output or file size |
    /// | `forbidden_syscall` | `SIGSYS` ended it under a filter or a list that may kill |
    /// | `memory` | the kernel killed a process of it for want of memory, whatever the others did then |
    /// | `processes` | a new process was refused, and it did not exit with 0 |
    /// | `cpu_time` | it was killed for that, used more than the limit, or `SIGXCPU` ended it under one of the weaker form |
    /// | `wall_time` | it was killed for that, or took longer than the limit |
    /// | `signalled` | a signal ended it |
    /// | `nonzero_exit` | it exited with another code than 0 |
    /// | `ok` | |
    pub fn verdict(&self) -> Verdict {
        let signal = match self.status {
            Status::Signaled { signal, .. } => Some(signal),
            Status::Exited(_) => None,
        };
        let is_limited = |limit| self.limit(limit).is_some();
        let is_over = |used: Option<std::time::Duration>, limit| {
            let used = used.map(|time| time.as_micros());
            used.zip(self.limit(limit)).is_some_and(|(used, held)| used > held.value.into())
        };
        let writes_are_limited = is_limited(Limit::FileSize) || is_limited(Limit::Output);
        let can_be_killed = self.protections.filter == Filter::DenylistKill || self.protections.syscalls;
        let cpu_is_weak = self.limit(Limit::CpuTime).is_some_and(|held| held.form == Form::ProcessTimes);
        if self.cause == Cause::Limit(Limit::Output)
            || self.evidence.output_exceeded == Some(true)
            || (signal == Some(libc::SIGXFSZ) && writes_are_limited)
        {
            Verdict::Output
        } else if signal == Some(libc::SIGSYS) && can_be_killed {
            Verdict::ForbiddenSyscall
        } else if self.evidence.oom_kills.is_some_and(|count| count > 0) {
            Verdict::Memory
        } else if self.evidence.refused_forks.is_some_and(|count| count > 0) && !self.status.success() {
            Verdict::Processes
        } else if self.cause == Cause::Limit(Limit::CpuTime)
            || is_over(self.usage.cpu, Limit::CpuTime)
            || (signal == Some(libc::SIGXCPU) && cpu_is_weak)
        {
            Verdict::CpuTime
        } else if self.cause == Cause::Limit(Limit::WallTime) || is_over(self.usage.wall, Limit::WallTime) {
            Verdict::WallTime
        } else if signal.is_some() {
            Verdict::Signalled
        } else if !self.status.success() {
            Verdict::NonzeroExit
        } else {
            Verdict::Ok
        }
    }
}

#[cfg(test)]
mod tests;
