//! Runs one program in a fresh container, with the terminal's streams, and exits as the program did.
//!
//! ```text
//! run [--stdin FILE | --tty] [--env K=V]... [--bind SRC[:DST[:rw]]]... [--json] [LIMITS] -- program args…
//!
//! LIMITS: --cpu-time 1s --wall-time 2s --memory 64MiB --processes 32 --stack 8MiB --file-size 16MiB --open-files 64
//!         --output 1MiB --weaker
//! ```
//!
//! The exit code is the program's own, or 128+n where signal n ended it; 127 where the program is missing, 126 where it
//! cannot be executed, 125 where the container failed, and 2 for wrong arguments. Ctrl-C and SIGTERM kill the program,
//! destroy the container and exit with 128+n.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use cellblock::{Command, Container, ErrorKind, Limits, Mount, Report, Stdio};
use clap::Args;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod terminal;

/// Runs one program in a fresh container, and exits as the program did.
#[derive(Args)]
pub struct Options {
    /// The program's standard input. Default: the terminal's.
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Gives the program a terminal of its own, and connects this one to it: for an interactive shell.
    #[arg(long, conflicts_with = "stdin")]
    tty: bool,
    /// A variable of the program's environment, which otherwise has a PATH and nothing else.
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// A file or directory of the host to show inside: at the same path, unless DST names another, and read-only,
    /// unless it ends in `:rw`.
    #[arg(long, value_name = "SRC[:DST[:rw]]")]
    bind: Vec<Mount>,
    /// Prints the report as a line of JSON on standard output once the program has ended.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitOptions,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

/// What the program may use. A time may have any unit (500ms, 2s), and so may a size (64MiB, 1MB).
#[derive(Args)]
struct LimitOptions {
    /// CPU time of all its processes together.
    #[arg(long, value_name = "TIME")]
    cpu_time: Option<humantime::Duration>,
    /// Time by the clock [default: 60s, and none with --tty].
    #[arg(long, value_name = "TIME")]
    wall_time: Option<humantime::Duration>,
    /// Memory of all its processes together [default: 1GiB].
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Processes and threads at once [default: 256].
    #[arg(long, value_name = "COUNT")]
    processes: Option<u32>,
    /// The stack [default: 8MiB].
    #[arg(long, value_name = "SIZE")]
    stack: Option<ByteSize>,
    /// Any one file.
    #[arg(long, value_name = "SIZE")]
    file_size: Option<ByteSize>,
    /// Open files of each process [default: 1024].
    #[arg(long, value_name = "COUNT")]
    open_files: Option<u64>,
    /// Both outputs together.
    #[arg(long, value_name = "SIZE", conflicts_with = "tty")]
    output: Option<ByteSize>,
    /// Makes do with a weaker form of a limit that this machine cannot hold.
    #[arg(long)]
    weaker: bool,
}

impl LimitOptions {
    fn limits(&self, is_interactive: bool) -> Limits {
        let wall = self.wall_time.map(Into::into).or(is_interactive.then_some(Duration::MAX));
        let size = |size: Option<ByteSize>| size.map(|size| size.as_u64());
        let limits = Limits::new().allow_weaker(self.weaker);
        let limits = self.cpu_time.into_iter().fold(limits, |limits, time| limits.cpu_time(time.into()));
        let limits = wall.into_iter().fold(limits, Limits::wall_time);
        let limits = size(self.memory).into_iter().fold(limits, Limits::memory);
        let limits = self.processes.into_iter().fold(limits, Limits::processes);
        let limits = size(self.stack).into_iter().fold(limits, Limits::stack);
        let limits = size(self.file_size).into_iter().fold(limits, Limits::file_size);
        let limits = self.open_files.into_iter().fold(limits, Limits::open_files);
        size(self.output).into_iter().fold(limits, Limits::output)
    }
}

fn variable(argument: &str) -> Result<(String, String), &'static str> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a variable is K=V"),
    }
}

pub fn main(options: Options) -> ExitCode {
    match Runtime::new().map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(run(options));
        // A thread may still be reading this process's input.
        runtime.shutdown_background();
        result
    }) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::from(failure_code(error.as_ref()))
        }
    }
}

/// The code that a shell gives where it could not run a program, or 125 where it was not the program's fault.
fn failure_code(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<cellblock::Error>() {
        Some(error) if error.kind() == ErrorKind::Exec && error.step() == Some("exec") => {
            let is_missing = error.raw_os_error() == Some(nix::errno::Errno::ENOENT as i32);
            if is_missing { 127 } else { 126 }
        }
        _ => 125,
    }
}

async fn run(options: Options) -> Result<u8, Box<dyn Error>> {
    let command = command(&options)?;
    // Caught before there is anything to leave behind.
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let tty = options.tty.then(|| Mount::device("/dev/tty"));
    let mounts = options.bind.into_iter().chain(tty);
    let container = mounts.fold(Container::builder(), |builder, mount| builder.mount(mount)).build().await?;
    let run = async {
        if options.tty {
            terminal::run(&container, command).await
        } else if options.limits.output.is_some() {
            pass_on(&container, command).await
        } else {
            Ok(container.run(&command).await?)
        }
    };
    let report = tokio::select! {
        report = run => Ok(report),
        code = caught(&mut interrupted, SignalKind::interrupt()) => Err(code),
        code = caught(&mut terminated, SignalKind::terminate()) => Err(code),
    };
    container.destroy().await;
    let report = match report {
        Ok(report) => report?,
        Err(code) => return Ok(code),
    };
    if options.json {
        let mut line = json!(report);
        line["verdict"] = json!(report.verdict());
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(u8::try_from(report.status.shell_code())?)
}

fn command(options: &Options) -> Result<Command, Box<dyn Error>> {
    let [program, args @ ..] = options.command.as_slice() else { return Err("no program is given".into()) };
    let stdin = match &options.stdin {
        Some(path) => File::open(path).map_err(|error| format!("{}: {error}", path.display()))?.into(),
        None => Stdio::inherit(),
    };
    let mut command = Command::new(program);
    command.args(args).stdin(stdin).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(options.env.iter().cloned());
    command.limits(options.limits.limits(options.tty));
    Ok(command)
}

/// Runs a program whose outputs are read here, so that they can be limited.
async fn pass_on(container: &Container, mut command: Command) -> Result<Report, Box<dyn Error>> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = container.spawn(&command).await?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let (mut stdout, mut stderr) = (stdout.ok_or("no standard output")?, stderr.ok_or("no standard error")?);
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let both = tokio::try_join!(tokio::io::copy(&mut stdout, &mut out), tokio::io::copy(&mut stderr, &mut err));
    tokio::try_join!(out.flush(), err.flush())?;
    let report = process.wait().await?;
    both?;
    Ok(report)
}

async fn caught(signal: &mut Signal, kind: SignalKind) -> u8 {
    signal.recv().await;
    128 + kind.as_raw_value() as u8
}
