//! The options that limit a program.
//!
//! Invariant: a limit that is not named keeps the library's default.

use bytesize::ByteSize;
use cellblock::Limits;
use clap::Args;

/// The limits of a program, as options. A time has a unit (500ms, 2s), and so may a size (64MiB,
/// 1MB).
#[derive(Args)]
#[command(next_help_heading = "Limits (a time is 500ms or 2s, a size 64MiB or 1MB)")]
pub struct LimitOptions {
    /// CPU time of all its processes together [default: no limit]
    #[arg(long, value_name = "TIME")]
    cpu_time: Option<humantime::Duration>,
    /// Time from its start to its end [default: 60s, or no limit with --tty]
    #[arg(long, value_name = "TIME")]
    pub wall_time: Option<humantime::Duration>,
    /// Memory of all its processes together [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<ByteSize>,
    /// Processes and threads at the same time [default: 256]
    #[arg(long, value_name = "COUNT")]
    processes: Option<u32>,
    /// Stack of the main thread [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    stack: Option<ByteSize>,
    /// Size of the largest file it may write [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    file_size: Option<ByteSize>,
    /// Open files of each process [default: 1024]
    #[arg(long, value_name = "COUNT")]
    open_files: Option<u64>,
    /// Standard output and standard error together [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "tty")]
    pub output: Option<ByteSize>,
    /// Accept a weaker form of a limit that this machine cannot hold
    ///
    /// Without control groups, CPU time, memory and processes are limited for each process or user.
    /// Without this option such a run is refused.
    #[arg(long)]
    weaker: bool,
}

fn size(text: &str) -> Result<ByteSize, &'static str> {
    text.parse().map_err(|_| "a size is a number, with a unit such as KiB, MiB or GB")
}

impl LimitOptions {
    pub fn limits(&self) -> Limits {
        let Self { cpu_time, wall_time, memory, processes, stack, file_size, open_files, output, weaker } = self;
        let mut limits = Limits::new().allow_weaker(*weaker);
        if let Some(time) = cpu_time {
            limits = limits.cpu_time((*time).into());
        }
        if let Some(time) = wall_time {
            limits = limits.wall_time((*time).into());
        }
        if let Some(size) = memory {
            limits = limits.memory(size.as_u64());
        }
        if let Some(count) = processes {
            limits = limits.processes(*count);
        }
        if let Some(size) = stack {
            limits = limits.stack(size.as_u64());
        }
        if let Some(size) = file_size {
            limits = limits.file_size(size.as_u64());
        }
        if let Some(count) = open_files {
            limits = limits.open_files(*count);
        }
        if let Some(size) = output {
            limits = limits.output(size.as_u64());
        }
        limits
    }
}
