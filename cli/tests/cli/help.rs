//! The help, the completions, and how a wrong call is answered.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{cellblock, open_dir, stderr, stdout};

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

/// The commands of the examples in a page of the help.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    let text = lines.take_while(|line| line.starts_with("  ")).collect::<Vec<_>>().join("\n");
    let text = text.replace(" \\\n      ", " ");
    let commands = text.lines().map(|line| line.trim().trim_start_matches("$ "));
    // A description may follow a command.
    commands.map(|line| line.split("   ").next().unwrap().to_owned()).filter(|line| !line.starts_with('{')).collect()
}

#[test]
fn every_example_of_the_help_runs() {
    let dir = open_dir();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_cellblock"), bin.join("cellblock")).unwrap();
    fs::copy("/bin/cat", dir.path().join("solution")).unwrap();
    fs::write(dir.path().join("input.txt"), "from a file\n").unwrap();
    copy_a_problem(&dir.path().join("problems"));
    let path = std::env::join_paths([bin, "/usr/bin".into(), "/bin".into()]).unwrap();
    for page in ["--help", "run", "grade", "console", "doctor"] {
        let help = match page {
            "--help" => output(&mut cellblock(page)),
            command => output(cellblock("help").arg(command)),
        };
        let examples = examples(stdout(&help));
        assert!(!examples.is_empty(), "{page}");
        for example in examples.iter().filter(|example| !ELSEWHERE.iter().any(|(it, _)| it == *example)) {
            assert!(example.contains("cellblock "), "{page}: {example}");
            let mut shell = Command::new("sh");
            shell.args(["-ec", example]).current_dir(dir.path()).env("PATH", &path);
            let output = output(&mut shell);
            assert!(output.status.success(), "{example}: {}{}", stdout(&output), stderr(&output));
        }
    }
}

/// A problem with a single submission, so that it is graded soon.
fn copy_a_problem(to: &Path) {
    let problem = Path::new(env!("CARGO_MANIFEST_DIR")).join("problems/sumpairs");
    assert!(Command::new("cp").arg("-r").arg(&problem).arg(to).status().unwrap().success());
    fs::remove_dir_all(to.join("submissions")).unwrap();
    fs::create_dir_all(to.join("submissions/accepted")).unwrap();
    let submission = "submissions/accepted/set.py";
    fs::copy(problem.join(submission), to.join(submission)).unwrap();
}

/// Examples that are not run here, and why. Those of `completions` are lines for three shells; the
/// tests of the completions below run its command.
const ELSEWHERE: [(&str, &str); 3] = [
    ("cellblock run --tty /bin/bash", "needs a terminal; `run.rs` gives one to a shell"),
    ("cellblock run --image python.tar python3 -c 'print(6 * 7)'", "needs an image; `images.rs` makes some of its own"),
    (
        "cellblock grade --humaneval HumanEval.jsonl.gz --samples samples.jsonl",
        "needs the tasks; `grade.rs` makes some of its own",
    ),
];

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
