//! Attacks, each with a control: the same attack where nothing prevents it, or against the program
//! itself.
//!
//! Each module is a group of the table in `SECURITY.md`. The tests run as root, whose containers
//! have ids of their own, and as an ordinary user, whose programs share the id of the init. A test
//! says what differs between the two.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod escape;
mod ids;
mod init;
mod leftovers;
mod lifetime;
mod network;
mod resources;
mod soak;
mod streams;
mod surface;
mod world;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command as HostCommand;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cellblock::{Command, Container};

use common::{SECOND, container, lacks, python, says, skip};

/// An attack program, built once.
struct Built {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Built {
    fn new(source: &str) -> Self {
        let dir = common::open_dir();
        let path = dir.path().join("attack");
        common::gcc(source, &path, &["-pthread"]);
        Self { _dir: dir, path }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::from_fd("attack", File::open(&self.path).unwrap());
        command.args(words);
        command
    }
}

fn attacks() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| Built::new(include_str!("attack.c")))
}

fn calls() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| Built::new(include_str!("surface.c")))
}

/// The outcome of each attempt: `works`, or the name of an errno.
type Outcomes = BTreeMap<String, String>;

fn outcomes(said: &str) -> Outcomes {
    let outcome = |line: &str| line.rsplit_once(' ').map(|(attempt, outcome)| (attempt.to_owned(), outcome.to_owned()));
    said.lines().map(|line| outcome(line).unwrap_or_else(|| panic!("no outcome: {line:?}"))).collect()
}

/// The attempts of an attack that succeed in a container.
async fn successes(container: &Container, attack: &Command) -> Vec<String> {
    works(&outcomes(&says(container, attack).await))
}

fn works(outcomes: &Outcomes) -> Vec<String> {
    outcomes.iter().filter(|(_, outcome)| *outcome == "works").map(|(attempt, _)| attempt.clone()).collect()
}

/// Runs an attack on the host as the current user, for a control.
fn on_host(attack: &Built, words: &[&str]) -> Outcomes {
    let dir = tempfile::tempdir().unwrap();
    let output = HostCommand::new(&attack.path).args(words).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", output.status);
    outcomes(&String::from_utf8(output.stdout).unwrap())
}

/// The state that a program finds when it starts, as `fingerprint.py` prints it.
async fn fingerprint(container: &Container) -> String {
    says(container, &python(include_str!("fingerprint.py"))).await
}

/// The lines that are in only one of two fingerprints.
fn differences(before: &str, after: &str) -> Vec<String> {
    let missing = |from: &str, other: &str| -> Vec<String> {
        from.lines().filter(|line| !other.lines().any(|it| it == *line)).map(str::to_owned).collect()
    };
    [missing(before, after), missing(after, before)].concat()
}

/// The pid of the init on the host.
async fn init_of(container: &Container) -> u32 {
    let parent = Arc::new(Mutex::new(None));
    let found = Arc::clone(&parent);
    let mut command = Command::new("/bin/true");
    command.pid_hook(move |pid, _| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(|pid| pid.trim().parse().unwrap());
        *found.lock().unwrap() = line;
        async { Ok(()) }
    });
    container.run(&command).await.unwrap();
    let found = *parent.lock().unwrap();
    found.unwrap()
}

/// Asserts that the container answers and runs programs.
async fn assert_well(container: &Container) {
    container.ping(5 * SECOND).await.unwrap();
    assert!(container.run(&Command::new("/bin/true")).await.unwrap().status.success());
}

/// Not a test: the part that [`common::another_host`] runs in another process.
#[test]
fn another_host() {
    match std::env::var(common::ROLE).as_deref() {
        Ok("fill the range of ids") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            println!("\ncontainers {}", runtime.block_on(ids::fill_range()));
        }
        Ok("read proc") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            println!("\nproc {}", runtime.block_on(world::read_proc()));
        }
        Ok("soak") => soak::play(),
        Ok(_) => lifetime::play(),
        Err(_) => {}
    }
}
