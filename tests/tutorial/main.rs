//! The examples, run as a reader runs them.
//!
//! `cargo test` builds the examples first. `cargo test --test tutorial` does not, and runs those of
//! an earlier build. The tests run one at a time, because the examples have limits of wall time.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

#[path = "../common/processes.rs"]
mod processes;
mod service;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use common::turn;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program of an example. Cargo puts examples beside the directory of the tests.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built: run `cargo build --examples` first", program.display());
    Command::new(program)
}

/// Runs an example to its end, which must be a success, and returns what it printed.
fn printed_by(name: &str, args: &[&str]) -> String {
    let output = example(name).args(args).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn hello_prints_the_output_of_its_program() {
    let _turn = turn();
    assert_eq!(printed_by("hello", &[]), "42\n");
}

#[test]
fn interactive_plays_the_game_to_its_end() {
    let _turn = turn();
    let printed = printed_by("interactive", &["437"]);
    let expected = "500 is lower\n250 is higher\n375 is higher\n437 is right\nthe guesser wins\n";
    assert_eq!(printed, expected);
    // The keeper accepts no guess, since the guesser never leaves its range.
    let printed = printed_by("interactive", &["1001"]);
    assert!(printed.ends_with("the game is off: the keeper nonzero_exit, the guesser nonzero_exit\n"), "{printed}");
}

#[test]
fn session_goes_on_after_an_interrupt_and_loses_its_variables_only_with_its_interpreter() {
    let _turn = turn();
    let expected = ">>> x = 6; open('notes', 'w').write('kept')
>>> while True: pass
KeyboardInterrupt
>>> print(x * 7)
42
>>> print(1 / 0)
ZeroDivisionError: division by zero
>>> import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)
... while True: pass
killed
>>> print('x' in globals(), open('notes').read())
False kept
its files: notes
";
    assert_eq!(printed_by("session", &[]), expected);
}

/// A file of submissions, one a line.
fn submissions(lines: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}

#[test]
fn evaluator_prints_each_verdict_as_it_comes() {
    let _turn = turn();
    let file = submissions(&["print(int(input()[0]) * 7)", "1 / 0", "print('x' * (2 << 20))", "pass"]);
    let printed = printed_by("evaluator", &[file.path().to_str().unwrap()]);
    for line in ["1: ok \"42\"", "2: nonzero_exit \"\"", "4: ok \"\"", "4 judged"] {
        assert!(printed.lines().any(|it| it == line), "{line} is not in:\n{printed}");
    }
    assert!(printed.lines().any(|line| line.starts_with("3: output ")), "{printed}");
}

#[test]
fn evaluator_stops_cleanly_at_ctrl_c() {
    let _turn = turn();
    let file = submissions(&[&["import time; time.sleep(4)"; 500], &["print(1)"; 1][..]].concat());
    let mut child = example("evaluator").arg(file.path()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    processes::running(pid, std::thread::available_parallelism().unwrap().get(), "python3");
    let before = processes::descendants(pid);
    kill(Pid::from_raw(pid as i32), Signal::SIGINT).unwrap();
    assert!(processes::wait(&mut child).success());
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(printed.ends_with("judged, then canceled\n"), "{printed}");
    assert_eq!(processes::alive(&before), [], "nothing is left");
}

/// The example is built only with the feature, like this test.
#[cfg(feature = "metrics")]
#[test]
fn batch_counts_its_verdicts_and_its_metrics() {
    let _turn = turn();
    let printed = printed_by("batch", &["200"]);
    for line in [
        "ok: 180",
        "nonzero_exit: 20",
        "cellblock_runs_total verdict=ok: 180",
        "cellblock_runs_total verdict=nonzero_exit: 20",
        "cellblock_leases_total: 200",
        "cellblock_waiting: 0",
        "cellblock_containers state=leased: 0",
    ] {
        assert!(printed.lines().any(|it| it == line), "{line} is not in:\n{printed}");
    }
    assert!(printed.contains("cellblock_seconds phase=run: 200 times, median "), "{printed}");
}
