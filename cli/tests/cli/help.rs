//! The help, the completions, and how a wrong call is answered.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::{cellblock, stderr, stdout};

const COMMANDS: [&str; 6] = ["run", "grade", "console", "images", "doctor", "completions"];

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn every_help_fits_80_columns_and_has_an_example() {
    let mut pages: Vec<_> = COMMANDS.iter().flat_map(|&name| [vec![name, "-h"], vec!["help", name]]).collect();
    pages.extend([vec!["-h"], vec!["--help"]]);
    for page in pages {
        let output = output(cellblock(page[0]).args(&page[1..]));
        assert_eq!(output.status.code(), Some(0), "{page:?}: {}", stderr(&output));
        let help = stdout(&output);
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{page:?}: {longest:?} columns");
        assert!(help.contains("Usage: cellblock"), "{page:?}: {help}");
        let is_short_help_of_console = page == ["console", "-h"];
        assert!(help.contains("Example") || is_short_help_of_console, "{page:?}: {help}");
    }
}

#[test]
fn the_help_lists_every_command() {
    let output = output(&mut cellblock("--help"));
    for name in COMMANDS {
        assert!(stdout(&output).lines().any(|line| line.trim_start().starts_with(name)), "{name}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = output(&mut cellblock("--version"));
    assert_eq!(stdout(&output), concat!("cellblock ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_call_exits_with_2_and_a_short_usage() {
    let cases: [&[&str]; 5] =
        [&["rnu"], &["--verison"], &["doctor", "--xml"], &["console", "extra"], &["completions", "dos"]];
    for args in cases {
        let output = output(cellblock(args[0]).args(&args[1..]));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let message = stderr(&output);
        assert!(message.starts_with("error: ") && message.lines().count() <= 8, "{args:?}: {message}");
        assert!(message.contains("--help") && output.stdout.is_empty(), "{args:?}: {message}");
    }
}

#[test]
fn without_a_command_the_help_is_shown() {
    let output = output(&mut Command::new(env!("CARGO_BIN_EXE_cellblock")));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Commands:"), "{}", stderr(&output));
}

#[test]
fn the_completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = output(cellblock("completions").arg(shell));
        assert_eq!(output.status.code(), Some(0), "{shell}: {}", stderr(&output));
        assert!(COMMANDS.iter().all(|name| stdout(&output).contains(name)), "{shell}");
    }
}

#[test]
fn bash_completes_an_option() {
    let output = output(cellblock("completions").arg("bash"));
    let script =
        "\nCOMP_WORDS=(cellblock run --wall); COMP_CWORD=2; _cellblock cellblock --wall run; echo ${COMPREPLY[@]}";
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(format!("{}{script}", stdout(&output)).as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "--wall-time\n"));
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    // `head` closes its end before the first byte is written.
    let script = r#"(sleep 0.2; "$0" "$@"; echo $? >&2) | head -c 0"#;
    for args in [&["--help"][..], &["completions", "bash"], &["doctor", "--json"], &["run", "--json", "true"]] {
        let mut shell = Command::new("sh");
        let output = output(shell.args(["-c", script, env!("CARGO_BIN_EXE_cellblock")]).args(args));
        assert_eq!(stderr(&output), "0\n", "{args:?}");
    }
}
