//! The limits that were in force during a run, and what held each.
//!
//! Invariant: [`Limit`] is the only list of what can be limited.

use serde::{Deserialize, Serialize};

/// One of the things that [`Limits`](crate::Limits) limits.
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
    /// The number of processes and threads.
    Processes,
    /// The stack, in bytes.
    Stack,
    /// The size of a file, in bytes.
    FileSize,
    /// The number of open files.
    OpenFiles,
    /// The address space, in bytes.
    AddressSpace,
    /// The number of CPUs in the CPU set.
    CpuSet,
    /// The CPU rate, in thousandths of a CPU.
    CpuRate,
    /// The output, in bytes.
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
    /// The CPU times of the processes that the init sees when it looks, and a resource limit of
    /// each process.
    ProcessTimes,
    /// The CPU affinity of the processes.
    Affinity,
    /// The reader of the output pipes.
    Reader,
}

/// A limit that was in force, and what held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// What was limited.
    pub limit: Limit,
    /// The value of the limit, in the unit that [`Limit`] names.
    pub value: u64,
    /// What held the limit.
    pub form: Form,
}
