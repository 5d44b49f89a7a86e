//! Shared by the tests: the command, directories, and the processes of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Long enough on a machine that is busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// `cellblock` with a subcommand.
pub fn cellblock(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellblock"));
    command.arg(subcommand);
    command
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A temporary directory that every user may enter.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

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
    eventually("the end of cellblock", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
pub fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Asserts that a report has this status and all figures.
pub fn assert_report(report: &Value, status: &Value) {
    assert_eq!(report["status"], *status);
    let usage = &report["usage"];
    let figures = ["wall_us", "cpu_us", "user_us", "system_us", "memory_peak_bytes", "processes_peak", "set_up_us"];
    assert_eq!(keys(usage), figures.into(), "{report}");
    assert!(usage.as_object().unwrap().values().all(|figure| figure.is_u64() || figure.is_null()), "{report}");
}
