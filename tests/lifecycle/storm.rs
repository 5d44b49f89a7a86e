//! Hostile runs in eight containers at once, with kills, drops and resets at random.
//!
//! `CELLBLOCK_TEST_SOAK` sets the number of runs (160) and `CELLBLOCK_TEST_SEED` the random
//! choices.

use std::fs::File;
use std::time::Duration;

use cellblock::{Command, Container, Limits};

use crate::common::random::Random;
use crate::common::{alone, builder};

const PROGRAMS: [&str; 20] = [
    "exit 0",
    "exit 3",
    "raise 11",
    "raise 9",
    "spin",
    "threads 6",
    "grandchild",
    "children",
    "sleep",
    "stop",
    "stubborn",
    "forks",
    "orphans 50",
    "heap 67112960",
    "child 67112960",
    "shared 67112960",
    "memfd 67112960",
    "file 67112960",
    "flood 1048576",
    "recurse",
];

const CONTAINERS: u32 = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

fn hog(program: &File, what: &str) -> Command {
    let limits = Limits::new().cpu_time(Duration::from_millis(100)).wall_time(Duration::from_millis(250));
    let limits = limits.memory(32 << 20).processes(16).output(64 << 10).file_size(48 << 20).allow_weaker(true);
    let mut command = Command::from_fd("hog", program.try_clone().unwrap());
    command.args(what.split(' ')).arg(mark()).limits(limits);
    command
}

/// An argument that distinguishes these programs from those of other tests.
fn mark() -> String {
    format!("soak{}", std::process::id())
}

async fn storm(program: &File, runs: u64, mut random: Random) {
    let mut container = builder().build().await.unwrap();
    for _ in 0..runs {
        let what = PROGRAMS[random.below(PROGRAMS.len() as u64) as usize];
        let (command, moment) = (hog(program, what), Duration::from_millis(random.below(40)));
        match random.below(6) {
            0 | 1 => drop(container.run(&command).await),
            2 => drop(container.output(&command).await),
            3 => {
                let mut process = container.spawn(&command).await.unwrap();
                tokio::time::sleep(moment).await;
                process.kill().await.unwrap();
            }
            4 => drop(tokio::time::timeout(moment, container.output(&command)).await),
            _ => {
                let mut process = container.spawn(&command).await.unwrap();
                drop(tokio::time::timeout(moment, process.wait()).await);
            }
        }
        match random.below(20) {
            // Replaces the container, whatever it is doing.
            0 => container = replaced(container).await,
            1..8 => container.reset().await.unwrap_or_else(|error| panic!("{what}: {error}")),
            _ => container.ping(Duration::from_secs(10)).await.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    }
    container.destroy().await;
}

async fn replaced(container: Container) -> Container {
    container.destroy().await;
    builder().build().await.unwrap()
}

#[test]
fn a_storm_of_hostile_runs_leaves_the_host_as_it_was() {
    alone(async |snapshot| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hog");
        crate::common::gcc(include_str!("../limits/hog.c"), &path, &["-pthread"]);
        {
            let program = File::open(&path).unwrap();
            let (runs, seed) = (number("CELLBLOCK_TEST_SOAK", 160), number("CELLBLOCK_TEST_SEED", 0x5eed));
            println!("{runs} runs, seed {seed}");
            let storms = (0..CONTAINERS).map(|place| {
                storm(&program, runs / u64::from(CONTAINERS), Random::new(seed + 1 + u64::from(place) * 7919))
            });
            futures::future::join_all(storms).await;
        }
        snapshot.assert_restored().await;
        assert_eq!(crate::common::processes_with(&mark()), [] as [u32; 0], "no process of a run is left");
    });
}
