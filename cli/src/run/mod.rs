//! `cellblock run`: one program in a fresh container, with the streams of this process.
//!
//! Invariant: the container is destroyed before this process exits, also after SIGINT and SIGTERM.

mod terminal;

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cellblock::process::OutputPipe;
use cellblock::{Command, Container, ErrorKind, Limits, Mount, Report, Stdio};
use clap::{Args, ValueHint};
use rustix::io::Errno;
use serde_json::json;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::environment::{PATH, Variable};
use crate::image::ImageOptions;
use crate::interrupts::Interrupts;
use crate::limits::LimitOptions;
use crate::runtime::block_on;
use crate::stdout::print;

/// Run one program in a fresh container and exit as it did
///
/// The program has the standard streams of this command. It sees /usr, /bin, /lib and a few files
/// of /etc, all read-only. /w, its working directory, and /tmp are writable and empty. It has no
/// network. With --image it sees the image instead, and has its environment, working directory, and
/// command if no program is given.
#[derive(Args)]
#[command(override_usage = "cellblock run [OPTIONS] [--] PROGRAM [ARGS]...", after_help = EXAMPLES)]
pub struct Options {
    /// The program and its arguments; options of `run` come before them
    #[arg(
        value_names = ["PROGRAM", "ARGS"],
        required_unless_present = "image",
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
    #[command(flatten)]
    image: ImageOptions,
    /// Read the program's standard input from a file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    stdin: Option<PathBuf>,
    /// Give the program a terminal of its own, as an interactive shell needs
    #[arg(long, conflicts_with = "stdin")]
    tty: bool,
    /// Set an environment variable; by default there are PATH and HOME, or what the image sets
    #[arg(long, value_name = "K=V", value_parser = named_variable)]
    env: Vec<Variable>,
    /// Show a file or directory of the host at DST, or at its own path
    ///
    /// It is read-only unless the option ends in `:rw`.
    #[arg(long, value_name = "SRC[:DST[:rw]]", value_hint = ValueHint::AnyPath)]
    bind: Vec<Mount>,
    /// Print the report as a line of JSON after the program has ended
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitOptions,
}

const EXAMPLES: &str = "\
Examples:
  cellblock run /bin/sh -c 'id; ls -A / /w; echo hello'
  cellblock run --bind ./solution:/solution --stdin input.txt \\
      --cpu-time 1s --memory 64MiB --weaker --json /solution
  cellblock run --tty /bin/bash
  cellblock run --image python.tar python3 -c 'print(6 * 7)'

Exit code: the program's own, or 128+n if signal n ended it; 127 if the program
is missing, 126 if it cannot be executed, 125 if the container failed, 2 if the
arguments are wrong. SIGINT and SIGTERM kill the program and destroy the
container; the exit code is then 128+n.";

pub fn main(options: Options) -> ExitCode {
    match block_on(run(options)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("cellblock run: {error}");
            if let Some(advice) = advice(error.as_ref()) {
                eprintln!("{advice}");
            }
            ExitCode::from(failure_code(error.as_ref()))
        }
    }
}

/// The exit code of an error: 127 and 126 as a shell gives them, 2 for wrong arguments as the
/// parser gives it, or 125 if the program is not the cause.
fn failure_code(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<cellblock::Error>() {
        Some(error) if error.kind() == ErrorKind::Exec && error.step() == Some("exec") => {
            let is_missing = error.raw_os_error() == Some(Errno::NOENT.raw_os_error());
            if is_missing { 127 } else { 126 }
        }
        Some(error) if error.kind() == ErrorKind::InvalidInput => 2,
        _ => 125,
    }
}

/// The option that helps after an error, if there is one.
fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref::<cellblock::Error>()?.kind() {
        ErrorKind::Unsupported => Some("With --weaker the run goes on with the weaker form of a limit."),
        ErrorKind::Exec if failure_code(error) == 127 => {
            Some("The container sees a part of the host. --bind shows it more, and `cellblock help run` says what.")
        }
        _ => None,
    }
}

fn named_variable(text: &str) -> Result<Variable, String> {
    match text.parse()? {
        Variable { key, .. } if key.is_empty() => Err(format!("a variable is K=V, not {text:?}")),
        variable => Ok(variable),
    }
}

async fn run(options: Options) -> Result<u8, Box<dyn Error>> {
    let stdin = stdin(&options)?;
    let mut interrupts = Interrupts::catch()?;
    let container = tokio::select! {
        container = build(&options) => container?,
        // An image may take long to unpack. Any other build ends soon, and is seen to its end.
        code = interrupts.recv(), if options.image.image.is_some() => return Ok(code),
    };
    let command = match command(&options, &container) {
        Some(command) => command,
        None => {
            container.destroy().await;
            return Err("the image has no command: give a program".into());
        }
    };
    let command = prepared(command, stdin, &options);
    let run = async {
        if options.tty {
            terminal::run(&container, command).await
        } else if options.limits.output.is_some() {
            run_piped(&container, command).await
        } else {
            Ok(container.run(&command).await?)
        }
    };
    let result = tokio::select! {
        report = run => Ok(report),
        code = interrupts.recv() => Err(code),
    };
    container.destroy().await;
    let report = match result {
        Ok(report) => report?,
        Err(code) => return Ok(code),
    };
    if options.json {
        let mut line = json!(report);
        line["verdict"] = json!(report.verdict());
        print(format_args!("{line}\n"))?;
    }
    Ok(u8::try_from(report.status.shell_code())?)
}

async fn build(options: &Options) -> cellblock::Result<Container> {
    let mut builder = Container::builder();
    if let Some(root) = options.image.root().await? {
        builder = builder.root(root);
    }
    for mount in options.bind.iter().cloned().chain(options.tty.then(|| Mount::device("/dev/tty"))) {
        builder = builder.mount(mount);
    }
    builder.build().await
}

fn stdin(options: &Options) -> Result<Stdio, Box<dyn Error>> {
    Ok(match &options.stdin {
        Some(path) => File::open(path).map_err(|error| format!("{}: {error}", path.display()))?.into(),
        None => Stdio::inherit(),
    })
}

/// The program of the options, or the command of the image.
fn command(options: &Options, container: &Container) -> Option<Command> {
    let Some((program, args)) = options.command.split_first() else { return container.root_command() };
    let mut command = Command::new(program);
    command.args(args);
    Some(command)
}

fn prepared(mut command: Command, stdin: Stdio, options: &Options) -> Command {
    command.stdin(stdin).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    if options.image.image.is_none() {
        command.env("PATH", PATH);
    }
    command.envs(options.env.iter().map(|variable| (&variable.key, &variable.value)));
    command.limits(limits(options));
    command
}

fn limits(options: &Options) -> Limits {
    let limits = options.limits.limits();
    let is_unlimited = options.tty && options.limits.wall_time.is_none();
    if is_unlimited { limits.wall_time(Duration::MAX) } else { limits }
}

/// Runs a program with pipes and copies its output. The library limits output only where it reads
/// the pipes.
async fn run_piped(container: &Container, mut command: Command) -> Result<Report, Box<dyn Error>> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = container.spawn(&command).await?;
    let stdout = process.stdout.take().ok_or("no standard output")?;
    let stderr = process.stderr.take().ok_or("no standard error")?;
    let copied = tokio::try_join!(copy(stdout, tokio::io::stdout()), copy(stderr, tokio::io::stderr()));
    let report = process.wait().await?;
    copied?;
    Ok(report)
}

/// Copies a stream of the program to one of this process.
async fn copy(mut from: OutputPipe, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let copied = match tokio::io::copy(&mut from, &mut to).await {
        Ok(_) => to.flush().await,
        Err(error) => Err(error),
    };
    match copied {
        // The pipe of the program closes too, so its next write fails as it would without this
        // copy.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
