//! The processes below a process, for tests that start programs of their own.
//!
//! The tests of the command include this file too, so it imports nothing but std.
#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Long enough on a machine that is busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process. The start time tells it from a later one with the same pid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    start: u64,
    pub name: String,
}

/// All processes of the machine, each after its parent's pid.
pub fn processes() -> Vec<(u32, Process)> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<_> = tail.split_whitespace().collect();
        let name = head.split_once('(')?.1.to_owned();
        Some((fields[1].parse().ok()?, Process { pid, start: fields[19].parse().ok()?, name }))
    })
    .collect()
}

/// The children of a process, their children, and so on.
pub fn descendants(pid: u32) -> BTreeSet<Process> {
    let processes = processes();
    let mut found = BTreeSet::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for (_, process) in processes.iter().filter(|(ppid, _)| *ppid == parent) {
            parents.push(process.pid);
            found.insert(process.clone());
        }
    }
    found
}

/// The processes of a set that still exist.
pub fn alive(of: &BTreeSet<Process>) -> Vec<Process> {
    processes().into_iter().map(|(_, process)| process).filter(|process| of.contains(process)).collect()
}

/// Waits until a process has `count` descendants of this name. Returns all its descendants.
pub fn running(pid: u32, count: usize, name: &str) -> BTreeSet<Process> {
    let mut found = BTreeSet::new();
    eventually(&format!("{count} × {name}"), || {
        found = descendants(pid);
        found.iter().filter(|process| process.name == name).count() == count
    });
    found
}

/// Waits for the end of a child, but not for ever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the end of the program", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
