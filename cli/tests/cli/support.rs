//! Shared by the tests: the command, directories, and what reports have.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

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
