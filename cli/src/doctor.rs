//! Tells what this machine grants to containers, what is missing, what that costs, and what mends it.
//!
//! `--json` prints a line of JSON instead. The exit status is 0 where a container can be built, and 1 where not.

use std::io::Write;
use std::process::ExitCode;

use cellblock::Container;
use clap::Args;

/// Tells what this machine grants to containers. Exits with 1 where none can be built.
#[derive(Args)]
pub struct Options {
    /// Prints a line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(options: Options) -> ExitCode {
    diagnose(&options).unwrap_or_else(|error| {
        eprintln!("cellblock doctor: {error}");
        ExitCode::FAILURE
    })
}

fn diagnose(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let diagnosis = runtime.block_on(cellblock::doctor::diagnose(&Container::builder()));
    let mut stdout = std::io::stdout();
    match options.json {
        true => writeln!(stdout, "{}", serde_json::to_string(&diagnosis)?)?,
        false => write!(stdout, "{diagnosis}")?,
    }
    Ok(if diagnosis.can_build() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
