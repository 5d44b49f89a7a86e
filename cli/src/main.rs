//! The command `cellblock`: programs in containers, from a shell.
//!
//! Invariant: `cellblock::init()` comes first in `main`, because a container's init is this executable, started again.

mod console;
mod doctor;
mod grade;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run untrusted programs in Linux containers.
#[derive(Parser)]
#[command(name = "cellblock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Options),
    Grade(grade::Options),
    Console,
    Doctor(doctor::Options),
}

fn main() -> ExitCode {
    cellblock::init(); // in a container's init this never returns
    match Cli::parse().command {
        Command::Run(options) => run::main(options),
        Command::Grade(options) => grade::main(options),
        Command::Console => console::main(),
        Command::Doctor(options) => doctor::main(options),
    }
}
