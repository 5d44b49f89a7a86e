//! The commands of the README, the guide and CONTRIBUTING.md, run as a reader runs them.
//!
//! They build the whole workspace, so the test that runs them has to be asked for:
//! `cargo test --test docs -- --ignored`. CI does (the step `commands`).
//!
//! Invariant: a command of these pages is run here, or is in [`ELSEWHERE`] with the reason.
#![allow(missing_docs)]

mod blocks;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use blocks::{Shown, commands, is_shown_as};

/// The commands that are not run here, each with the step of CI that runs it, or with what it
/// needs.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo run --release -p cellblock-cli -- grade cli/problems", "step cli"),
    ("cargo test --workspace", "step test"),
    ("cargo test -p cellblock-cli", "step test"),
    ("cargo test --test security init::", "step test"),
    (".ci/run user", "step user"),
    (".ci/run subordinate", "step subordinate"),
    (".ci/run format clippy docs", "step format"),
    ("CELLBLOCK_CI_DIR=/tmp/cellblock-ci .ci/run test", "step test"),
    ("cargo run --release --manifest-path benches/peers/Cargo.toml", "step benches"),
    ("tests/vm/run uml limits", "step vm"),
    ("CELLBLOCK_VM_MODES=user-delegated tests/vm/run 6.12 security", "needs a kernel from Debian, and 10 minutes"),
    ("rustup toolchain install nightly --profile minimal", "step fuzz"),
    ("cargo install cargo-fuzz --locked", "step fuzz"),
    ("mkdir -p /tmp/requests /tmp/commands", "step fuzz"),
    ("cargo +nightly fuzz run requests /tmp/requests fuzz/corpus/requests", "step fuzz"),
    ("cargo +nightly fuzz run --sanitizer none commands /tmp/commands fuzz/corpus/commands", "step fuzz"),
    ("cargo +nightly fuzz run requests fuzz/artifacts/requests/crash-…", "needs an input that failed"),
    (
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
         --security-opt systempaths=unconfined --security-opt writable-cgroups=true IMAGE",
        "needs Docker",
    ),
];

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &str) -> String {
    fs::read_to_string(checkout().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The pages: the README, CONTRIBUTING.md and all of the guide.
fn pages() -> Vec<String> {
    let guide = fs::read_dir(checkout().join("src/guide")).unwrap().map(|it| it.unwrap().file_name());
    let mut pages: Vec<_> = guide.map(|name| format!("src/guide/{}", name.to_str().unwrap())).collect();
    pages.retain(|page| page.ends_with(".md"));
    pages.extend(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]);
    // README's first.
    pages.sort();
    pages
}

/// A command without its comment, and with single spaces.
fn words(command: &str) -> String {
    let command = command.split("  #").next().unwrap_or_default();
    command.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shown() -> Vec<Shown> {
    pages().iter().flat_map(|page| commands(page, &read(page))).collect()
}

#[test]
fn every_command_that_is_not_run_here_is_on_a_page_and_its_step_exists() {
    let commands: Vec<_> = shown().iter().map(|it| words(&it.command)).collect();
    let steps = read(".ci/run");
    for (command, why) in ELSEWHERE {
        assert!(commands.iter().any(|it| it == command), "no page has it any more: {command}");
        if let Some(step) = why.strip_prefix("step ") {
            assert!(steps.contains(&format!("\nstep_{step}() {{")), "{command}: no step {step}");
        }
    }
}

#[test]
#[ignore = "builds the workspace and the release of the command; CI's step `commands` runs it"]
fn every_other_command_does_what_its_page_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut image = Command::new("/usr/bin/python3");
    image.arg("tests/docs/python_image.py").arg(dir.path().join("python.tar")).current_dir(checkout());
    assert!(image.status().unwrap().success());
    let mut failures = Vec::new();
    for Shown { place, command, output } in shown() {
        if let Some((_, why)) = ELSEWHERE.iter().find(|(it, _)| *it == words(&command)) {
            println!("elsewhere ({why}): {place}: {command}");
            continue;
        }
        println!("{place}: {command}");
        let start = Instant::now();
        let mut shell = shell(dir.path(), &command);
        if place.starts_with("src/guide/images.md") {
            shell.current_dir(dir.path());
        }
        let result = shell.output().unwrap();
        println!("    {:.1} s, {}", start.elapsed().as_secs_f32(), result.status);
        let stdout = String::from_utf8_lossy(&result.stdout);
        let is_as_shown = output.as_ref().is_none_or(|shown| is_shown_as(&stdout, shown));
        if !result.status.success() || !is_as_shown {
            let stderr = String::from_utf8_lossy(&result.stderr);
            failures.push(format!("{place}: {command}\n{}\n{stdout}{stderr}", result.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// A shell in the checkout. What `cargo install` installs goes into `dir`, and is found there.
fn shell(dir: &Path, command: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([dir.join("bin")].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=10", "900", "sh", "-ec", command]).current_dir(checkout()).stdin(Stdio::null());
    // `cargo doc --open` starts this in place of a browser.
    shell.env("PATH", path).env("CARGO_INSTALL_ROOT", dir).env("BROWSER", PathBuf::from("/bin/true"));
    shell
}
