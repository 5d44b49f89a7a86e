//! The programs that come with the library: found, started, looked at and ended by their users' means.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

/// Long enough for a machine that is busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// An example's program, which cargo puts beside the tests' directory.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.exists(), "`cargo test` builds the examples first; `cargo test --test examples` does not");
    Command::new(program)
}

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process that a number alone would not name for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    start: u64,
    pub name: String,
}

/// All processes of the machine, each with its parent's pid.
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

/// The processes that a process has started, and those that they have.
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

pub fn alive(of: &BTreeSet<Process>) -> Vec<Process> {
    processes().into_iter().map(|(_, process)| process).filter(|process| of.contains(process)).collect()
}

/// Waits until this many programs of this name run below a process, and gives all that is below it.
pub fn running(pid: u32, count: usize, name: &str) -> BTreeSet<Process> {
    let mut found = BTreeSet::new();
    eventually(&format!("{count} × {name}"), || {
        found = descendants(pid);
        found.iter().filter(|process| process.name == name).count() == count
    });
    found
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the end of the example", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
