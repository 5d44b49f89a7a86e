//! What a run may use.
//!
//! Invariant: [`Limits`] are wishes, and [`Limit`] is the only list of what can be limited. How each is held is decided in
//! `plan.rs` alone.

mod plan;
mod terms;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::RawRlimit;

pub(crate) use plan::{GroupLimits, Groups, HostSupport, NprocScope, Plan};
pub(crate) use terms::LeaseLimits;

/// What a run may use at most: [`Command::limits`](crate::Command::limits).
///
/// | limit | default | held by | weaker form |
/// |---|---|---|---|
/// | CPU time, of the whole tree | none | cgroup | `RLIMIT_CPU`, and the times of the processes that can be seen |
/// | wall time | 60 s | the init's clock | |
/// | memory, of the whole tree | 1 GiB | cgroup | `RLIMIT_DATA` of each process |
/// | processes and threads | 256 | cgroup | `RLIMIT_NPROC` |
/// | stack | 8 MiB | `RLIMIT_STACK` | |
/// | size of a file | none | `RLIMIT_FSIZE` | |
/// | open files | 1024 | `RLIMIT_NOFILE` | |
/// | address space | none | `RLIMIT_AS` | |
/// | core dumps | none are made, always | `RLIMIT_CORE`, and what may be in one | |
/// | CPU set | the host's | cgroup (cpuset) | the affinity, which the program may change |
/// | CPU rate | none | cgroup (cpu) | |
/// | output | none | whoever reads the pipes | `RLIMIT_FSIZE` of each file that an output goes to |
///
/// A limit that this machine cannot hold is an error of kind [`Unsupported`](crate::ErrorKind::Unsupported) before
/// anything runs, unless [`allow_weaker`](Self::allow_weaker) forms will do. A default is held in the best form there is; that of the
/// processes not at all where there is no cgroup, and the kernel counts all of the host's user (before Linux 5.14, where the
/// container has no user id of its own) or does not limit it (the machine's root). [`Report::limits`](crate::Report::limits) tells
/// which form was used. `Duration::MAX`, `u64::MAX` and `u32::MAX` are no limit. The defaults for stack and open files are
/// lowered to the host's own hard limits.
///
/// It serializes as `{"cpu_time_ms":1000,"wall_time_ms":2000,"memory_bytes":67108864,"processes":32,"stack_bytes":…,
/// "file_size_bytes":…,"open_files":…,"address_space_bytes":…,"cpu_set":[0],"cpu_rate":1.5,"output_bytes":…,
/// "weaker":true}`, each of which may be left out.
///
/// ```
/// use std::time::Duration;
/// use cellblock::{Command, Limits};
///
/// let limits = Limits::new().cpu_time(Duration::from_secs(1)).wall_time(Duration::from_secs(2)).memory(64 << 20);
/// Command::new("./solution").limits(limits);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(rename = "cpu_time_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    cpu_time: Option<Duration>,
    #[serde(rename = "wall_time_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    wall_time: Option<Duration>,
    #[serde(rename = "memory_bytes", skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<u32>,
    #[serde(rename = "stack_bytes", skip_serializing_if = "Option::is_none")]
    stack: Option<u64>,
    #[serde(rename = "file_size_bytes", skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<u64>,
    #[serde(rename = "address_space_bytes", skip_serializing_if = "Option::is_none")]
    address_space: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpu_set: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_rate: Option<f64>,
    #[serde(rename = "output_bytes", skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
    weaker: bool,
}

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// CPU time in user mode and in the kernel, of every process and thread of the run together. The run is killed no later
    /// than one scheduler tick per busy CPU and 1 ms after it; what the kernel needs to free its memory is counted too, which
    /// is seconds for page tables of a GiB.
    pub fn cpu_time(self, time: Duration) -> Self {
        Self { cpu_time: Some(time), ..self }
    }

    /// Time by the monotonic clock from the program's start, whatever it does with it; that of a
    /// [hook](crate::Command::pid_hook) included.
    pub fn wall_time(self, time: Duration) -> Self {
        Self { wall_time: Some(time), ..self }
    }

    /// Bytes of memory as the kernel charges them: heap, stacks, files in a tmpfs, memfds, shared memory, page tables, and
    /// pages of files where this run was the first to read them. Files that earlier runs left in a tmpfs are charged until
    /// a reset.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Processes and threads that exist at the same time.
    pub fn processes(self, count: u32) -> Self {
        Self { processes: Some(count), ..self }
    }

    /// Bytes of the main thread's stack, arguments and environment included.
    pub fn stack(self, bytes: u64) -> Self {
        Self { stack: Some(bytes), ..self }
    }

    /// Bytes of the largest file that may be written: `SIGXFSZ`, or `EFBIG` for a program that ignores that.
    pub fn file_size(self, bytes: u64) -> Self {
        Self { file_size: Some(bytes), ..self }
    }

    /// Descriptors of each process.
    pub fn open_files(self, count: u64) -> Self {
        Self { open_files: Some(count), ..self }
    }

    /// Bytes of each process's address space. It breaks programs that reserve more than they use: Go, the JVM, V8.
    pub fn address_space(self, bytes: u64) -> Self {
        Self { address_space: Some(bytes), ..self }
    }

    /// The CPUs that the run may use, by their numbers.
    pub fn cpu_set(self, cpus: impl IntoIterator<Item = u32>) -> Self {
        let mut cpu_set: Vec<_> = cpus.into_iter().collect();
        cpu_set.sort_unstable();
        cpu_set.dedup();
        Self { cpu_set, ..self }
    }

    /// How many CPUs the run may keep busy, over periods of 100 ms: 0.5 is half of one. At least 0.01.
    pub fn cpu_rate(self, cpus: f64) -> Self {
        Self { cpu_rate: Some(cpus), ..self }
    }

    /// Bytes that the run may write to its piped outputs together. What reads them stops there, and the run is killed.
    pub fn output(self, bytes: u64) -> Self {
        Self { output: Some(bytes), ..self }
    }

    /// Takes the weaker form of a limit where this machine cannot hold the full one.
    pub fn allow_weaker(self, will_do: bool) -> Self {
        Self { weaker: will_do, ..self }
    }
}

/// One of the things that [`Limits`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// CPU time, in microseconds.
    CpuTime,
    /// Wall time, in microseconds.
    WallTime,
    /// Memory, in bytes.
    Memory,
    /// Processes and threads.
    Processes,
    /// The stack, in bytes.
    Stack,
    /// The size of a file, in bytes.
    FileSize,
    /// Open files.
    OpenFiles,
    /// Address space, in bytes.
    AddressSpace,
    /// The CPU set: how many it has.
    CpuSet,
    /// The CPU rate, in thousandths of a CPU.
    CpuRate,
    /// Output, in bytes.
    Output,
}

/// What holds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Form {
    /// A group of a cgroup v1 hierarchy.
    CgroupV1,
    /// A group of the cgroup v2 hierarchy.
    CgroupV2,
    /// The init's monotonic clock.
    Clock,
    /// A resource limit of each process, or of the user id.
    Rlimit,
    /// The times of the processes that can be seen when the init looks, and a resource limit of each.
    ProcessTimes,
    /// The processes' CPU affinity.
    Affinity,
    /// What reads the pipes.
    Reader,
}

/// A limit that was in force, and what held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What was limited.
    pub limit: Limit,
    /// To how much, in the limit's unit.
    pub value: u64,
    /// By what.
    pub form: Form,
}

/// What a resource limit counts (getrlimit(2)).
///
/// The kernel applies each to every process of the program on its own, except [`Processes`](Self::Processes), which
/// counts all the processes and threads of the container's user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// CPU time, in seconds. SIGXCPU at the soft limit, SIGKILL at the hard one.
    CpuSeconds,
    /// The largest file that may be written, in bytes. SIGXFSZ or `EFBIG` beyond it.
    FileSize,
    /// The data segment and private writable mappings, in bytes.
    Data,
    /// The main thread's stack, in bytes.
    Stack,
    /// Processes and threads of the container's user id.
    Processes,
    /// File descriptors: one more than the highest number.
    OpenFiles,
    /// Address space, in bytes. Breaks programs that reserve much more than they use: Go, the JVM, V8.
    AddressSpace,
}

impl Resource {
    /// The kernel's number for this resource (the same on x86_64 and aarch64).
    fn number(self) -> u32 {
        match self {
            Self::CpuSeconds => libc::RLIMIT_CPU,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::Data => libc::RLIMIT_DATA,
            Self::Stack => libc::RLIMIT_STACK,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::AddressSpace => libc::RLIMIT_AS,
        }
    }
}

/// One resource limit: a soft value that the program may raise, up to a hard one that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl From<Rlimit> for RawRlimit {
    fn from(Rlimit { resource, soft, hard }: Rlimit) -> Self {
        Self { resource: resource.number(), soft, hard }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let time = |millis| if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) };
        Ok(Option::<u64>::deserialize(from)?.map(time))
    }
}

#[cfg(test)]
mod tests;
