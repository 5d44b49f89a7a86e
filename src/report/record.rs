//! The parts of a report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{Held, Limit};
use crate::seccomp::Filter;

/// What is known about a run that has ended: every process that it started is dead.
///
/// [`Report::verdict`](Self::verdict) sums it up. It serializes with times in whole microseconds:
///
/// ```json
/// {
///   "status": {"exited": 0},
///   "cause": "exit",
///   "usage": {"wall_us": 1520, …},
///   "sources": {"wall": "clock", …},
///   "evidence": {"oom_kills": 0, …},
///   "limits": [{"limit": "memory", "value": 67108864, "form": "cgroup_v1"}, …],
///   "protections": {"filter": "denylist", …}
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// How the program's first process ended.
    pub status: Status,
    /// Why it ended so.
    pub cause: Cause,
    /// What the run used.
    pub usage: Usage,
    /// The source of each of those figures.
    pub sources: Sources,
    /// Other facts that the verdict depends on.
    pub evidence: Evidence,
    /// The limits that were in force, and what held each.
    pub limits: Vec<Held>,
    /// What isolated the run from its surroundings.
    pub protections: Protections,
}

impl Report {
    /// The limit of this kind that was in force, if one was.
    pub fn limit(&self, limit: Limit) -> Option<&Held> {
        self.limits.iter().find(|held| held.limit == limit)
    }
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
        /// Whether the kernel says that the process dumped core.
        core_dumped: bool,
    },
}

impl Status {
    /// Whether the program exited with code 0.
    ///
    /// ```no_run
    /// # async fn example(container: cellblock::Container) -> cellblock::Result<()> {
    /// use cellblock::Command;
    ///
    /// let status = container.run(Command::new("false")).await?.status;
    /// assert!(!status.success() && status.code() == Some(1) && status.signal().is_none());
    /// # Ok(()) }
    /// ```
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The exit code, if the program exited.
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled { .. } => None,
        }
    }

    /// The signal's number, if a signal ended the program.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signaled { signal, .. } => Some(signal),
        }
    }

    /// Whether the kernel says that the process dumped core.
    pub fn core_dumped(self) -> bool {
        matches!(self, Self::Signaled { core_dumped: true, .. })
    }

    /// The code that a shell gives: the exit code, or 128 plus the signal's number.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }
}

/// Why a program's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It exited.
    Exit,
    /// A signal other than one of the kills below.
    Signal,
    /// This library killed it for a limit.
    Limit(Limit),
    /// This library killed it on request: the caller called `kill`, or dropped its handle.
    Request,
    /// This library killed it because the run that it was [beside](crate::Beside) had ended.
    MainEnded,
    /// The kernel killed it because its group was out of memory.
    OutOfMemory,
}

/// What a run used. [`Sources`] tells where each figure comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Wall time from just before the clone of the program's process until no process of the run
    /// was alive. In JSON `wall_us`.
    #[serde(rename = "wall_us", with = "micros")]
    pub wall: Option<Duration>,
    /// CPU time of all processes of the run. In JSON `cpu_us`.
    ///
    /// From wait4(2) it is the time of every process that the init reaped, and of the descendants
    /// that those had waited for. A process whose parent ignored its death is then missing.
    #[serde(rename = "cpu_us", with = "micros")]
    pub cpu: Option<Duration>,
    /// CPU time in user mode, always from wait4(2). In JSON `user_us`.
    #[serde(rename = "user_us", with = "micros")]
    pub user: Option<Duration>,
    /// CPU time in the kernel, always from wait4(2). In JSON `system_us`.
    #[serde(rename = "system_us", with = "micros")]
    pub system: Option<Duration>,
    /// The most memory at once, in bytes.
    ///
    /// From a group it is what all processes had charged together, over what was charged before the
    /// run. It is exact to the batches in which the kernel charges, of 256 KiB for each CPU. From
    /// wait4(2) it is the largest resident set of any one process (`ru_maxrss`), which is never
    /// less than the init's own.
    pub memory_peak_bytes: Option<u64>,
    /// The most processes and threads at once. Only a group counts them.
    pub processes_peak: Option<u64>,
    /// Wall time from the init's receipt of the run until the execution of the program. In JSON
    /// `set_up_us`.
    #[serde(rename = "set_up_us", with = "micros")]
    pub set_up: Option<Duration>,
}

/// The source of each figure of a [`Usage`].
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
    /// Nowhere: the figure is not known.
    #[default]
    Nowhere,
    /// The init's monotonic clock.
    Clock,
    /// wait4(2), of the processes that the init reaped.
    Wait4,
    /// The run's groups of cgroup v1.
    CgroupV1,
    /// The run's group of cgroup v2.
    CgroupV2,
}

/// What a verdict depends on, beside the status and the usage. A figure that only a control group
/// counts is `None` for a run without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evidence {
    /// How many processes the kernel killed because the run's group was out of memory.
    pub oom_kills: Option<u64>,
    /// How often the kernel refused a new process or thread because of the limit on them.
    pub refused_forks: Option<u64>,
    /// For how long the CPU rate kept the run off the CPUs. In JSON `throttled_us`.
    #[serde(rename = "throttled_us", with = "micros")]
    pub throttled: Option<Duration>,
    /// Whether the run wrote more than its output limit, as far as the reader of its pipes has
    /// seen. `None` without such a limit.
    pub output_exceeded: Option<bool>,
    /// By how much the CPU time exceeded its limit, if it did. In JSON `cpu_overshoot_us`.
    #[serde(rename = "cpu_overshoot_us", with = "micros")]
    pub cpu_overshoot: Option<Duration>,
}

/// What isolated a run from its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Protections {
    /// The container's system-call filter.
    pub filter: Filter,
    /// Whether the command had an allowlist of system calls.
    pub syscalls: bool,
    /// Whether the program's ids on the host were the container's own and not those of its init.
    pub own_ids: bool,
    /// Whether Landlock was in force. It keeps the program from opening the host's files that the
    /// caller passed to it with more access than they were passed with, by their names in
    /// `/proc/self/fd`. Needs Linux 6.2.
    pub landlock: bool,
}

impl Protections {
    pub(crate) fn new(filter: Filter, own_ids: bool, landlock: bool) -> Self {
        Self { filter, syscalls: false, own_ids, landlock }
    }
}

/// Durations as whole microseconds, the unit of wait4(2).
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|it| it.as_micros() as u64).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_micros))
    }
}
