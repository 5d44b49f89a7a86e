//! The least that each limit may be.
//!
//! Invariant: a run whose limits pass here starts. What its program lacks after that is a report
//! and no error, so a limit that a tenant chooses costs no container.

use std::time::Duration;

use crate::error::{Error, Result};

use super::request::Limits;

/// The kernel charges the start of any program 160 KiB, and may hold 256 KiB for each CPU back for
/// a moment. Below 600 KiB a start fails now and then.
const MEMORY: u64 = 2 << 20;
/// What [`MEMORY`] has room for.
const ARGUMENTS: u64 = 128 << 10;
/// What the kernel places on the stack before the first instruction, and the first frames.
const STACK: u64 = 64 << 10;
/// The three streams, and one to open the program's libraries with.
const OPEN_FILES: u64 = 4;
/// The pages of the program itself.
const ADDRESS_SPACE: u64 = 1 << 20;
const CPU_RATE: f64 = 0.01;
/// More CPUs than any machine has.
const MOST_CPU_RATE: f64 = 1e6;

impl Limits {
    /// Refuses values that are too low to start a program, or that no kernel takes. The machine has
    /// CPUs with numbers below `cpus`.
    pub(super) fn check(&self, cpus: u32) -> Result<()> {
        more_than_zero("CPU time", self.cpu_time)?;
        more_than_zero("wall time", self.wall_time)?;
        at_least("memory", "bytes", self.memory, MEMORY)?;
        at_least("processes", "processes", self.processes.map(u64::from), 1)?;
        at_least("the stack", "bytes", self.stack, STACK)?;
        at_least("open files", "files", self.open_files, OPEN_FILES)?;
        at_least("the address space", "bytes", self.address_space, ADDRESS_SPACE)?;
        if let Some(cpu) = self.cpu_set.iter().find(|&&cpu| cpu >= cpus) {
            return Err(Error::invalid(format!("there is no CPU {cpu}: this machine has {cpus}, from 0")));
        }
        match self.cpu_rate {
            Some(rate) if !(CPU_RATE..=MOST_CPU_RATE).contains(&rate) => {
                Err(Error::invalid(format!("a CPU rate of {rate}: it must be at least {CPU_RATE}")))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a memory limit that has no room for a program's arguments and environment, which take
/// this many bytes in its memory, beside what every start takes.
pub(crate) fn check_room_for(memory: Option<u64>, arguments: u64) -> Result<()> {
    let floor = MEMORY.saturating_add(arguments.saturating_sub(ARGUMENTS));
    at_least("memory for a program with these arguments", "bytes", memory, floor)
}

fn more_than_zero(what: &str, time: Option<Duration>) -> Result<()> {
    match time {
        Some(Duration::ZERO) => Err(Error::invalid(format!("a limit of no {what} leaves nothing to run with"))),
        _ => Ok(()),
    }
}

/// `u64::MAX` is no limit, and above every floor.
fn at_least(what: &str, unit: &str, value: Option<u64>, floor: u64) -> Result<()> {
    match value.filter(|&value| value < floor) {
        Some(value) => Err(Error::invalid(format!("a limit of {value} on {what}: it must be at least {floor} {unit}"))),
        None => Ok(()),
    }
}

/// Refuses leases of less memory than a run needs.
pub(crate) fn check_lease_memory(bytes: u64) -> Result<()> {
    at_least("the memory of a lease", "bytes", Some(bytes), MEMORY)
}
