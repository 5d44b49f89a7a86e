//! The verdict on a run.
//!
//! Invariant: a [`Verdict`] is a pure function of a [`Report`], so a caller who judges otherwise
//! has the same evidence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{Form, Limit};
use crate::seccomp::Filter;

use super::record::{Cause, Report, Status};

/// The outcome of a run in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// The program exited with 0, within its limits.
    Ok,
    /// The program exited with another code.
    NonzeroExit,
    /// A signal ended the program, and not for a limit: its own signal, or a kill on request.
    Signaled,
    /// The run exceeded its CPU time.
    CpuTime,
    /// The run exceeded its wall time.
    WallTime,
    /// The run, or one process of it, ran out of memory.
    Memory,
    /// The run wrote more than it may, to its outputs or to a file.
    Output,
    /// The kernel refused the run a process or thread, and the program did not exit with 0.
    Processes,
    /// The program made a system call that ends a run.
    ForbiddenSyscall,
}

impl Verdict {
    /// Its name, as it serializes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NonzeroExit => "nonzero_exit",
            Self::Signaled => "signaled",
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
    /// Judges the run. The first line that applies decides:
    ///
    /// | verdict | applies if |
    /// |---|---|
    /// | `output` | the output limit was exceeded, or `SIGXFSZ` ended the program |
    /// | `forbidden_syscall` | `SIGSYS` ended the program under a filter or a list that may kill |
    /// | `memory` | the kernel killed a process because the run's group was out of memory |
    /// | `processes` | a new process was refused, and the program did not exit with 0 |
    /// | `cpu_time` | the CPU time limit was exceeded, or `SIGXCPU` ended the program |
    /// | `wall_time` | the wall time limit was exceeded |
    /// | `signaled` | a signal ended the program |
    /// | `nonzero_exit` | the program exited with another code than 0 |
    /// | `ok` | otherwise |
    ///
    /// A limit is exceeded if the run was killed for it or used more than it. `SIGXFSZ` counts only
    /// under a limit on output or file size, and `SIGXCPU` only under a CPU time limit of the
    /// weaker form. `memory` applies whatever the other processes did after the kill.
    pub fn verdict(&self) -> Verdict {
        if self.has_exceeded_output() {
            Verdict::Output
        } else if self.has_made_forbidden_call() {
            Verdict::ForbiddenSyscall
        } else if self.evidence.oom_kills > Some(0) {
            Verdict::Memory
        } else if self.evidence.refused_forks > Some(0) && !self.status.success() {
            Verdict::Processes
        } else if self.has_exceeded_cpu_time() {
            Verdict::CpuTime
        } else if self.has_exceeded(self.usage.wall, Limit::WallTime) {
            Verdict::WallTime
        } else {
            match self.status {
                Status::Signaled { .. } => Verdict::Signaled,
                Status::Exited(0) => Verdict::Ok,
                Status::Exited(_) => Verdict::NonzeroExit,
            }
        }
    }

    fn has_exceeded_output(&self) -> bool {
        let is_limited = self.limit(Limit::FileSize).or(self.limit(Limit::Output)).is_some();
        self.cause == Cause::Limit(Limit::Output)
            || self.evidence.output_exceeded == Some(true)
            || (self.is_ended_by(libc::SIGXFSZ) && is_limited)
    }

    fn has_made_forbidden_call(&self) -> bool {
        let can_be_killed = self.protections.filter == Filter::DenylistKill || self.protections.syscalls;
        self.is_ended_by(libc::SIGSYS) && can_be_killed
    }

    fn has_exceeded_cpu_time(&self) -> bool {
        let is_weak = self.limit(Limit::CpuTime).is_some_and(|held| held.form == Form::ProcessTimes);
        self.has_exceeded(self.usage.cpu, Limit::CpuTime) || (self.is_ended_by(libc::SIGXCPU) && is_weak)
    }

    /// Whether the run was killed for this limit on a time, or `used` more than that.
    fn has_exceeded(&self, used: Option<Duration>, limit: Limit) -> bool {
        let is_over = |used: Duration| self.limit(limit).is_some_and(|held| used.as_micros() > held.value.into());
        self.cause == Cause::Limit(limit) || used.is_some_and(is_over)
    }

    fn is_ended_by(&self, number: i32) -> bool {
        matches!(self.status, Status::Signaled { signal, .. } if signal == number)
    }
}
