//! From the init's measurement to a report.
//!
//! Invariant: a figure of the run's control group replaces one from wait4(2), which misses
//! processes.

use std::time::Duration;

use crate::limits::{Held, Limit};
use crate::wire::{CgroupVersion, GroupFigures, KillReason, Measurement, WaitStatus};

use super::record::{Cause, Evidence, Protections, Report, Source, Sources, Status, Usage};

impl Report {
    /// Joins what the init measured with what the host knows.
    pub(crate) fn new(measured: Measurement, limits: Vec<Held>, protections: Protections) -> Self {
        let status = Status::from(measured.status);
        let killed = measured.killed;
        let mut report = Self {
            status,
            cause: Cause::Exit,
            usage: usage_of_processes(&measured),
            sources: SOURCES_OF_PROCESSES,
            evidence: Evidence::default(),
            limits,
            protections,
        };
        if let Some(group) = &measured.group {
            report.prefer_group(group);
        }
        report.cause = cause(status, killed, &report.evidence);
        report.evidence.cpu_overshoot = report.cpu_overshoot();
        report
    }

    /// Puts the group's figures in the place of those of the processes.
    fn prefer_group(&mut self, group: &GroupFigures) {
        let source = Source::from(group.version);
        let (usage, sources) = (&mut self.usage, &mut self.sources);
        if let Some(cpu) = group.cpu_us {
            (usage.cpu, sources.cpu) = (Some(Duration::from_micros(cpu)), source);
        }
        if let Some(peak) = group.memory_peak_bytes {
            (usage.memory_peak_bytes, sources.memory_peak) = (Some(peak), source);
        }
        if let Some(peak) = group.processes_peak {
            (usage.processes_peak, sources.processes_peak) = (Some(peak), source);
        }
        self.evidence.oom_kills = group.oom_kills;
        self.evidence.refused_forks = group.refused_forks;
        self.evidence.throttled = group.throttled_us.map(Duration::from_micros);
    }

    fn cpu_overshoot(&self) -> Option<Duration> {
        let limit = Duration::from_micros(self.limit(Limit::CpuTime)?.value);
        self.usage.cpu?.checked_sub(limit).filter(|over| !over.is_zero())
    }
}

const SOURCES_OF_PROCESSES: Sources = Sources {
    wall: Source::Clock,
    cpu: Source::Wait4,
    user_and_system: Source::Wait4,
    memory_peak: Source::Wait4,
    processes_peak: Source::Nowhere,
};

fn usage_of_processes(measured: &Measurement) -> Usage {
    let (user, system) = (Duration::from_micros(measured.user_us), Duration::from_micros(measured.system_us));
    Usage {
        wall: Some(Duration::from_micros(measured.wall_us)),
        cpu: Some(user + system),
        user: Some(user),
        system: Some(system),
        memory_peak_bytes: Some(measured.peak_resident_bytes),
        processes_peak: None,
        set_up: measured.set_up_us.map(Duration::from_micros),
    }
}

/// Why a run ended as it did. The reason for a kill counts only if the kill is what ended the
/// program.
fn cause(status: Status, killed: Option<KillReason>, evidence: &Evidence) -> Cause {
    match (status, killed) {
        (Status::Signaled { signal: libc::SIGKILL, .. }, Some(reason)) => match reason {
            KillReason::CpuTime => Cause::Limit(Limit::CpuTime),
            KillReason::WallTime => Cause::Limit(Limit::WallTime),
            KillReason::Output => Cause::Limit(Limit::Output),
            KillReason::Request => Cause::Request,
            KillReason::MainEnded => Cause::MainEnded,
        },
        (Status::Signaled { signal: libc::SIGKILL, .. }, None) if evidence.oom_kills > Some(0) => Cause::OutOfMemory,
        (Status::Signaled { .. }, _) => Cause::Signal,
        (Status::Exited(_), _) => Cause::Exit,
    }
}

impl From<WaitStatus> for Status {
    fn from(WaitStatus(status): WaitStatus) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

impl From<CgroupVersion> for Source {
    fn from(version: CgroupVersion) -> Self {
        match version {
            CgroupVersion::V1 => Self::CgroupV1,
            CgroupVersion::V2 => Self::CgroupV2,
        }
    }
}
