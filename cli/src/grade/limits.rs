//! What each kind of run may use.
//!
//! Invariant: nothing is run without limits, and where this machine has no control groups the weaker forms hold.

use std::time::Duration;

use cellblock::Limits;
use nix::sys::resource::{Resource, getrlimit};

use super::package;

/// The time of a case: what it may take, and when it is killed, which is later for a submission that must be too slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub limit: Duration,
    pub kill: Duration,
}

impl Clock {
    pub fn of(limit: Duration) -> Self {
        Self { limit, kill: limit }
    }
}

/// For a submission, with as much memory as it may have here.
pub fn run(limits: &package::Limits, clock: Clock, memory: u64) -> Limits {
    let time = base(clock.kill, memory).output(limits.output);
    // Contests let the stack grow as far as the memory goes; threads take it for their own, so not without end.
    let hard = getrlimit(Resource::RLIMIT_STACK).map_or(8 << 20, |(_, hard)| hard);
    time.stack(limits.memory.min(256 << 20).min(hard))
}

/// For a compiler or a build script.
pub fn build(limits: &package::Limits) -> Limits {
    base(limits.compilation_time, limits.compilation_memory)
}

/// For a validator.
pub fn validate(limits: &package::Limits) -> Limits {
    base(limits.validation_time, limits.validation_memory)
}

/// For the grader's own commands.
pub fn trusted() -> Limits {
    base(Duration::from_secs(60), 1 << 30)
}

/// By the clock a program may take twice its time, for it may have to wait for a processor.
fn base(cpu: Duration, memory: u64) -> Limits {
    Limits::new().cpu_time(cpu).wall_time(cpu * 2 + Duration::from_secs(1)).memory(memory).allow_weaker(true)
}

/// A time as tables have it.
pub fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}
