//! What a proc says of the machine: files that are made up, in place of the kernel's.
//!
//! Invariant: a figure here is the configuration's, or one that every program gets from a system
//! call: the CPUs that it may use, and the kernel's version.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::utsname::uname;
use nix::unistd::Pid;

use crate::wire::ShownMachine;

/// The files in the root of a proc, by their names.
pub(super) fn files(machine: ShownMachine) -> nix::Result<[(&'static str, String); 6]> {
    let cpus = usable_cpus()?;
    let kernel = uname()?;
    let version = format!("Linux version {} {}\n", kernel.release().display(), kernel.version().display());
    Ok([
        ("cpuinfo", cpuinfo(cpus)),
        // Of nothing but the reader.
        ("loadavg", "0.00 0.00 0.00 1/1 1\n".to_owned()),
        ("meminfo", meminfo(machine.memory_bytes)),
        ("stat", stat(cpus)),
        ("uptime", format!("1.00 {cpus}.00\n")),
        ("version", version),
    ])
}

/// The directories below `sys`, and the files in them.
pub(super) const SETTING_DIRS: [&str; 2] = ["sys/kernel", "sys/kernel/random"];

/// The files below `sys`, by their paths.
pub(super) fn settings() -> nix::Result<[(&'static str, String); 3]> {
    let kernel = uname()?;
    Ok([
        ("sys/kernel/ostype", "Linux\n".to_owned()),
        ("sys/kernel/osrelease", format!("{}\n", kernel.release().display())),
        // The highest value that the kernel allows.
        ("sys/kernel/pid_max", "4194304\n".to_owned()),
    ])
}

fn usable_cpus() -> nix::Result<usize> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count())
}

fn cpuinfo(cpus: usize) -> String {
    let cpu = |number| {
        format!(
            "processor\t: {number}\nvendor_id\t: unknown\nmodel name\t: unknown\ncpu MHz\t\t: 1000.000\n\
             physical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {number}\ncpu cores\t: {cpus}\n\n"
        )
    };
    (0..cpus).map(cpu).collect()
}

fn meminfo(bytes: u64) -> String {
    let all = bytes / 1024;
    let line = |(name, kib): (&str, u64)| format!("{:<16}{kib:>8} kB\n", format!("{name}:"));
    let free = ["MemTotal", "MemFree", "MemAvailable"].map(|name| (name, all));
    let none = [
        "Buffers",
        "Cached",
        "SwapCached",
        "Active",
        "Inactive",
        "SwapTotal",
        "SwapFree",
        "Dirty",
        "Writeback",
        "AnonPages",
        "Mapped",
        "Shmem",
        "Slab",
        "SReclaimable",
        "SUnreclaim",
        "Committed_AS",
    ];
    free.into_iter().chain(none.map(|name| (name, 0))).map(line).collect()
}

/// A machine that has been idle since it started, a second before.
fn stat(cpus: usize) -> String {
    let line = |name: String, idle: usize| format!("{name} 0 0 0 {idle} 0 0 0 0 0 0\n");
    let each: String = (0..cpus).map(|cpu| line(format!("cpu{cpu}"), 100)).collect();
    let all = line("cpu ".to_owned(), 100 * cpus);
    format!("{all}{each}intr 0\nctxt 0\nbtime 0\nprocesses 1\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n")
}
