//! The limits of each kind of run.
//!
//! Invariant: nothing runs without limits. Where this machine has no control groups the weaker
//! forms hold.

use std::time::Duration;

use cellblock::Limits;
use rustix::process::{Resource, getrlimit};

/// The limits that a problem sets, with sizes in bytes.
#[derive(Clone, Debug)]
pub struct ProblemLimits {
    pub memory: u64,
    pub output: u64,
    pub compilation_time: Duration,
    pub compilation_memory: u64,
    pub validation_time: Duration,
    pub validation_memory: u64,
}

/// The CPU time of a submission on a case.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit {
    /// More than this is too slow.
    pub limit: Duration,
    /// When the submission is killed: later than `limit` for one that is expected to be too slow.
    pub kill: Duration,
}

impl TimeLimit {
    /// A limit at which the submission is killed too.
    pub fn hard(limit: Duration) -> Self {
        Self { limit, kill: limit }
    }
}

/// For a submission. `memory` is the problem's limit or `u64::MAX`.
pub fn submission(limits: &ProblemLimits, time: TimeLimit, memory: u64) -> Limits {
    let base = base(time.kill, memory).output(limits.output);
    // In contests the stack may grow as far as the memory goes. Threads reserve a stack of this
    // size each, so it has a bound.
    let hard = getrlimit(Resource::Stack).maximum.unwrap_or(u64::MAX);
    base.stack(limits.memory.min(256 << 20).min(hard))
}

/// For a compiler or a build script.
pub fn build(limits: &ProblemLimits) -> Limits {
    base(limits.compilation_time, limits.compilation_memory)
}

/// For a validator.
pub fn validator(limits: &ProblemLimits) -> Limits {
    base(limits.validation_time, limits.validation_memory)
}

/// For the grader's own commands.
pub fn trusted() -> Limits {
    base(Duration::from_secs(60), 1 << 30)
}

/// The wall time is twice the CPU time and a second, because a program may wait for a processor.
fn base(cpu: Duration, memory: u64) -> Limits {
    Limits::new().cpu_time(cpu).wall_time(cpu * 2 + Duration::from_secs(1)).memory(memory).allow_weaker(true)
}
