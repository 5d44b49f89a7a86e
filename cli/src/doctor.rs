//! `cellblock doctor`: what this machine allows containers, what is missing, and the fix.

use std::error::Error;
use std::process::ExitCode;

use cellblock::Container;
use cellblock::doctor::diagnose;
use clap::Args;

use crate::stdout::print;

/// Check what this machine allows containers
///
/// Checks namespaces, proc, user ids, seccomp, control groups, Landlock and the kernel. Says what
/// is missing, what that costs, and the command that fixes it. Changes nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Print the findings as a line of JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  cellblock doctor
  cellblock doctor --json | jq '.findings[] | select(.grant == \"missing\")'

Exit code: 0 if a container can be built, 1 if not.";

pub fn main(options: Options) -> ExitCode {
    examine(&options).unwrap_or_else(|error| {
        eprintln!("cellblock doctor: {error}");
        ExitCode::FAILURE
    })
}

fn examine(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let diagnosis = runtime.block_on(diagnose(&Container::builder()));
    match options.json {
        true => print(serde_json::to_string(&diagnosis)? + "\n")?,
        false => print(&diagnosis)?,
    }
    Ok(if diagnosis.can_build() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
