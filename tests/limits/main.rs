//! Limits hold, figures are true, and verdicts follow from the evidence, with a program for each
//! case.
//!
//! `CELLBLOCK_TEST_ROUNDS` sets how often each program runs (2). `CELLBLOCK_TEST_CGROUP` names the
//! kind of control groups that must be found (`v1`, `v2` or `none`). `CELLBLOCK_TEST_SLOW` turns
//! bounds of time off, for an emulated machine.
#![allow(missing_docs)]

mod charges;
#[path = "../common/mod.rs"]
mod common;
mod figures;
mod floors;
mod groups;
mod stalls;
mod verdicts;

use std::fs::File;
use std::sync::OnceLock;
use std::time::Duration;

use cellblock::{Command, Container, Limits, Report, report::Source};

use common::{SECOND, builder, container, is_slow, lacks, skip};

const MIB: u64 = 1 << 20;

/// A run of `hog.c`, which is built once. The executable stays open after its file is removed.
fn hog(what: &str, limits: Limits) -> Command {
    static HOG: OnceLock<File> = OnceLock::new();
    let program = HOG.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hog");
        common::gcc(include_str!("hog.c"), &path, &["-pthread"]);
        File::open(path).unwrap()
    });
    let mut command = Command::from_fd("hog", program.try_clone().unwrap());
    command.args(what.split(' ')).limits(limits);
    command
}

/// Limits that may take a weaker form, with enough wall time for every program that ends by itself.
fn limits() -> Limits {
    Limits::new().allow_weaker(true).wall_time(millis(if is_slow() { 100_000 } else { 20_000 }))
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn rounds() -> u32 {
    std::env::var("CELLBLOCK_TEST_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap())
}

/// The kind of control groups that count the memory of runs here, if any. Fails if
/// `CELLBLOCK_TEST_CGROUP` names another kind.
async fn groups(container: &Container) -> Option<Source> {
    let report = container.run(&Command::new("/bin/true")).await.unwrap();
    let groups = Some(report.sources.memory_peak).filter(|&source| source != Source::Wait4);
    if let Ok(wanted) = std::env::var("CELLBLOCK_TEST_CGROUP") {
        let wanted = match wanted.as_str() {
            "v1" => Some(Source::CgroupV1),
            "v2" => Some(Source::CgroupV2),
            "none" => None,
            other => panic!("no such groups: {other}"),
        };
        assert_eq!(groups, wanted, "CELLBLOCK_TEST_CGROUP names other groups");
    }
    if groups.is_none() {
        println!("no control groups here: the weaker forms are tested");
    }
    groups
}

async fn run(container: &Container, command: &Command) -> Report {
    container.run(command).await.unwrap()
}

/// Not a test: the part that [`common::another_host`] runs in another process.
#[test]
fn another_host() {
    if let Ok(role) = std::env::var(common::ROLE) {
        groups::play(&role);
    }
}
