//! The processes below a process.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// A process, identified by its pid and its start time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pid: u32,
    start: u64,
    name: String,
}

/// All processes of the machine, each with the pid of its parent.
fn processes() -> Vec<(u32, Process)> {
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
        for (_, process) in processes.iter().filter(|(its_parent, _)| *its_parent == parent) {
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

/// Waits until this many programs of this name run below a process.
pub fn wait_for_programs(pid: u32, count: usize, name: &str) {
    eventually(&format!("{count} × {name}"), || {
        descendants(pid).iter().filter(|process| process.name == name).count() == count
    });
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the end of the example", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Waits until a condition holds; fails after a minute, which is enough on a busy machine.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
