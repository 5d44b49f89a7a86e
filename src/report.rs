//! What is known after a run.
//!
//! Invariant: a report is evidence, never judgement: the init measures once nothing of the run is alive, and the host adds
//! what was in force. A figure that is not known is `None`, and each says where it comes from.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{Form, Held, Limit};
use crate::seccomp::Filter;
pub use crate::verdict::Verdict;

/// What is known about a run that has ended: every process that it started is dead.
///
/// Serializes as `{"status":{"exited":0},"cause":"exit","usage":{"wall_us":…,…},"sources":{…},"evidence":{…},"limits":[{"limit":"memory",
/// "value":67108864,"form":"cgroup_v1"},…],"protections":{…}}`. [`Report::verdict`](Self::verdict) judges it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// How the program's first process ended.
    pub status: Status,
    /// Why it did.
    pub cause: Cause,
    /// What the run used.
    pub usage: Usage,
    /// Where those figures come from.
    pub sources: Sources,
    /// What else speaks for a verdict.
    pub evidence: Evidence,
    /// The limits that were in force, and what held each.
    pub limits: Vec<Held>,
    /// What stood between the run and its surroundings.
    pub protections: Protections,
}

impl Report {
    /// From what the init knows, and what the host knows.
    pub(crate) fn new(measured: Measured, limits: Vec<Held>, protections: Protections) -> Self {
        let Measured { status, killed, usage, sources, mut evidence } = measured;
        let is_killed = matches!(status, Status::Signaled { signal: libc::SIGKILL, .. });
        let cause = match (status, killed) {
            (_, Some(reason)) if is_killed => match reason {
                Reason::Limit(limit) => Cause::Limit(limit),
                Reason::Request => Cause::Request,
            },
            _ if is_killed && evidence.oom_kills > Some(0) => Cause::OutOfMemory,
            (Status::Signaled { .. }, _) => Cause::Signal,
            (Status::Exited(_), _) => Cause::Exit,
        };
        let cpu_limit = limits.iter().find(|held| held.limit == Limit::CpuTime);
        let over = |used: Duration, held: &Held| {
            used.checked_sub(Duration::from_micros(held.value)).filter(|over| !over.is_zero())
        };
        evidence.cpu_overshoot = usage.cpu.zip(cpu_limit).and_then(|(used, held)| over(used, held));
        Self { status, cause, usage, sources, evidence, limits, protections }
    }

    /// The limit of this kind that was in force, if one was.
    pub fn limit(&self, limit: Limit) -> Option<&Held> {
        self.limits.iter().find(|held| held.limit == limit)
    }
}

/// The part of a report that the init makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) status: Status,
    /// Why the run was killed, if it was.
    pub(crate) killed: Option<Reason>,
    pub(crate) usage: Usage,
    pub(crate) sources: Sources,
    pub(crate) evidence: Evidence,
}

#[cfg(test)]
impl Measured {
    pub(crate) fn of(status: Status) -> Self {
        Self {
            status,
            killed: None,
            usage: Usage::default(),
            sources: Sources::default(),
            evidence: Evidence::default(),
        }
    }
}

/// Why a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    Limit(Limit),
    /// Its caller wanted it, or has gone.
    Request,
}

/// How a program's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel says that it dumped core.
        core_dumped: bool,
    },
}

impl Status {
    /// Whether the program exited with code 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The code a shell would give: the exit code, or 128 and the signal's number.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }

    /// Whether the kernel has such a one.
    pub(crate) fn is_possible(self) -> bool {
        match self {
            Self::Exited(code) => (0..=255).contains(&code),
            Self::Signaled { signal, .. } => (1..=64).contains(&signal),
        }
    }

    /// Decodes the status that wait4(2) gives for a process that has ended.
    pub(crate) fn from_wait(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "ended by signal {signal}"),
            Self::Signaled { signal, core_dumped: true } => write!(f, "ended by signal {signal}, core dumped"),
        }
    }
}

/// Why the program's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It exited.
    Exit,
    /// A signal that was not this library's.
    Signal,
    /// This library killed it for a limit.
    Limit(Limit),
    /// This library killed it because its caller wanted that.
    Request,
    /// The kernel killed it for want of memory in its group.
    OutOfMemory,
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// From just before the program's process was made until nothing of the run was alive.
    #[serde(rename = "wall_us", with = "micros")]
    pub wall: Option<Duration>,
    /// CPU time of the whole tree. From wait4(2) it is that of every process that the init reaped and of the descendants
    /// those had waited for; then a process whose parent ignored its death is missing.
    #[serde(rename = "cpu_us", with = "micros")]
    pub cpu: Option<Duration>,
    /// CPU time in user mode, as wait4(2) gives it.
    #[serde(rename = "user_us", with = "micros")]
    pub user: Option<Duration>,
    /// CPU time in the kernel, as wait4(2) gives it.
    #[serde(rename = "system_us", with = "micros")]
    pub system: Option<Duration>,
    /// From a group, the most that all processes had charged at once, over what was charged before the run: exact to the
    /// batches in which the kernel charges, of 256 KiB for each CPU. From wait4(2), the largest resident set of any one process (`ru_maxrss`), which is never less than the init's own.
    pub memory_peak_bytes: Option<u64>,
    /// The most processes and threads at once.
    pub processes_peak: Option<u64>,
    /// From the init's receipt of the run until the program's execution.
    #[serde(rename = "set_up_us", with = "micros")]
    pub set_up: Option<Duration>,
}

/// Where each figure of a [`Usage`] comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sources {
    /// Of `wall` and `set_up`.
    pub wall: Source,
    /// Of `cpu`.
    pub cpu: Source,
    /// Of `user` and `system`.
    pub user_and_system: Source,
    /// Of `memory_peak_bytes`.
    pub memory_peak: Source,
    /// Of `processes_peak`.
    pub processes_peak: Source,
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// Nowhere: it is not known.
    #[default]
    Nowhere,
    /// The monotonic clock of the init.
    Clock,
    /// wait4(2), of the processes that the init reaped.
    Wait4,
    /// The run's cgroup v1 groups.
    CgroupV1,
    /// The run's cgroup v2 group.
    CgroupV2,
}

impl From<Form> for Source {
    /// The group that holds limits also counts.
    fn from(form: Form) -> Self {
        match form {
            Form::CgroupV1 => Self::CgroupV1,
            Form::CgroupV2 => Self::CgroupV2,
            _ => Self::Nowhere,
        }
    }
}

/// What speaks for a verdict beside the status and the figures. What the run's groups would count is `None` where it
/// had none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evidence {
    /// Processes that the kernel killed because the run was out of memory.
    pub oom_kills: Option<u64>,
    /// How often a new process or thread was refused because the run had all that it may have.
    pub refused_forks: Option<u64>,
    /// For how long CPUs were withheld because of the CPU rate.
    #[serde(rename = "throttled_us", with = "micros")]
    pub throttled: Option<Duration>,
    /// Whether more than the output limit was written, as far as whoever reads the pipes has seen it. `None` without one.
    pub output_exceeded: Option<bool>,
    /// How much more CPU time was used than the limit, where it was more.
    #[serde(rename = "cpu_overshoot_us", with = "micros")]
    pub cpu_overshoot: Option<Duration>,
}

/// What stood between a run and its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Protections {
    /// The system-call filter.
    pub filter: Filter,
    /// Whether the command had a list of system calls of its own.
    pub syscalls: bool,
    /// Whether the program's host ids were the container's own, and not those of its init.
    pub own_ids: bool,
    /// Whether Landlock kept the program from opening the host's files that it was given, by their names in `/proc/self/fd`, for
    /// more than they were given for. Linux 6.2 can.
    pub landlock: bool,
}

impl Protections {
    pub(crate) fn new(filter: Filter, own_ids: bool, landlock: bool) -> Self {
        Self { filter, syscalls: false, own_ids, landlock }
    }
}

impl fmt::Display for Report {
    /// A line for each thing that is known, as for people to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdict    {}", self.verdict())?;
        write!(f, "status     {}", self.status)?;
        match self.cause {
            Cause::Exit | Cause::Signal => writeln!(f)?,
            Cause::Limit(limit) => writeln!(f, " (killed: {} limit)", limit)?,
            Cause::Request => writeln!(f, " (killed on request)")?,
            Cause::OutOfMemory => writeln!(f, " (killed by the kernel: out of memory)")?,
        }
        let Usage { wall, cpu, user, system, memory_peak_bytes, processes_peak, set_up } = self.usage;
        let sources = self.sources;
        let mut line = |name: &str, value: Option<String>, source: Source| match value {
            Some(value) => writeln!(f, "{name:<10} {value} ({source})"),
            None => Ok(()),
        };
        line("wall", wall.map(|time| format!("{time:.3?}")), sources.wall)?;
        line("set-up", set_up.map(|time| format!("{time:.3?}")), sources.wall)?;
        line("cpu", cpu.map(|time| format!("{time:.3?}")), sources.cpu)?;
        let both = user.zip(system).map(|(user, system)| format!("{user:.3?} user, {system:.3?} system"));
        line("", both, sources.user_and_system)?;
        line("memory", memory_peak_bytes.map(|bytes| format!("{bytes} bytes at most")), sources.memory_peak)?;
        line("processes", processes_peak.map(|count| format!("{count} at most")), sources.processes_peak)?;
        let Evidence { oom_kills, refused_forks, throttled, output_exceeded, cpu_overshoot } = self.evidence;
        let seen = [
            oom_kills.filter(|&count| count > 0).map(|count| format!("{count} out-of-memory kills")),
            refused_forks.filter(|&count| count > 0).map(|count| format!("{count} refused forks")),
            throttled.filter(|time| !time.is_zero()).map(|time| format!("throttled for {time:.3?}")),
            output_exceeded.filter(|&is_so| is_so).map(|_| "more output than the limit".to_owned()),
            cpu_overshoot.map(|time| format!("{time:.3?} over the CPU time limit")),
        ];
        seen.into_iter().flatten().try_for_each(|it| writeln!(f, "evidence   {it}"))?;
        for Held { limit, value, form } in &self.limits {
            writeln!(f, "limit      {limit} {value} ({form})")?;
        }
        let ids = if self.protections.own_ids { "own" } else { "shared with the init" };
        let list = if self.protections.syscalls { " and a list of its own" } else { "" };
        let landlock = if self.protections.landlock { ", landlock" } else { "" };
        writeln!(f, "protected  filter {}{list}, ids {ids}{landlock}", self.protections.filter)
    }
}

macro_rules! read_as_they_serialize {
    ($($type:ty),*) => {
        $(impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        })*
    };
}

read_as_they_serialize!(Filter, Form, Limit, Source, Verdict);

/// Durations as whole microseconds, which is what wait4(2) gives.
mod micros {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|it| it.as_micros() as u64).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}
