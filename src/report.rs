//! What is known after a run.
//!
//! Invariant: a report is evidence, never judgement. It is made by the init once nothing of the run is alive.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is known about a run that has ended: every process that it started is dead.
///
/// Serializes as `{"status":{"exited":0},"usage":{"wall_us":…,"user_us":…,"system_us":…,"memory_peak_bytes":…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// How the program's first process ended.
    pub status: Status,
    /// What the run used.
    pub usage: Usage,
}

impl Report {
    pub(crate) fn new(status: Status, usage: Usage) -> Self {
        Self { status, usage }
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

/// What a run used. A figure that is not known is `None`.
///
/// CPU time is the sum over every process that the init reaped and the descendants those had waited for. A process
/// whose parent ignored its death (SIGCHLD ignored) is missing from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// From just before the program's start until nothing of the run was alive, by the monotonic clock.
    #[serde(rename = "wall_us", with = "micros")]
    pub wall: Option<Duration>,
    /// CPU time in user mode, as wait4(2) gives it.
    #[serde(rename = "user_us", with = "micros")]
    pub user: Option<Duration>,
    /// CPU time in the kernel, as wait4(2) gives it.
    #[serde(rename = "system_us", with = "micros")]
    pub system: Option<Duration>,
    /// The largest resident set of any one process, in bytes (`ru_maxrss`). The kernel counts from the moment of the
    /// fork, so it is never less than what the init itself has resident.
    pub memory_peak_bytes: Option<u64>,
}

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
