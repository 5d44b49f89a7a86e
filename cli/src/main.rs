//! The command `cellblock`: untrusted programs in containers, from a shell.
//!
//! Invariant: `cellblock::init()` is the first call in `main`. The init of a container is this
//! executable, started again.
#![warn(clippy::unwrap_used)]

mod completions;
mod console;
mod doctor;
mod environment;
mod grade;
mod image;
mod images;
mod interrupts;
mod limits;
mod run;
mod runtime;
mod stdout;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Run untrusted programs in Linux containers
///
/// A container has its own namespaces, its own root file system and no network. It starts in
/// milliseconds and needs neither root nor a daemon.
#[derive(Parser)]
#[command(name = "cellblock", version, max_term_width = 80, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cellblock doctor                     check this machine
  cellblock run /bin/sh -c 'echo hi'   run a program
  cellblock grade problems/            grade the submissions of problems

`cellblock help COMMAND` describes a command in full.";

#[derive(Subcommand)]
enum Command {
    Run(run::Options),
    Grade(grade::Options),
    Console(console::Options),
    Images(images::Options),
    Doctor(doctor::Options),
    Completions(completions::Options),
}

fn main() -> ExitCode {
    cellblock::init(); // in a container's init this never returns
    match Cli::parse().command {
        Command::Run(options) => run::main(options),
        Command::Grade(options) => grade::main(options),
        Command::Console(options) => console::main(options),
        Command::Images(options) => images::main(options),
        Command::Doctor(options) => doctor::main(options),
        Command::Completions(options) => completions::main(options, Cli::command()),
    }
}
