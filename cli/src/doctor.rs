//! `cellblock doctor`: what this machine allows containers, what is missing, and the fix.

use std::error::Error;
use std::process::ExitCode;

use cellblock::Container;
use cellblock::doctor::{self, diagnose};
use clap::{Args, ValueEnum};

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
    /// Print a configuration with the permissions that the findings ask for
    ///
    /// It is a shell command, a pod or a unit, with the findings as comments. It has no other
    /// permission. Run this in the container or the unit: only there it shows what is withheld.
    #[arg(long = "for", value_name = "PLATFORM", conflicts_with = "json")]
    platform: Option<Platform>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Platform {
    Docker,
    Kubernetes,
    Systemd,
}

impl From<Platform> for doctor::Platform {
    fn from(platform: Platform) -> Self {
        match platform {
            Platform::Docker => Self::Docker,
            Platform::Kubernetes => Self::Kubernetes,
            Platform::Systemd => Self::Systemd,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  cellblock doctor
  cellblock doctor --json | jq '.findings[] | select(.grant == \"missing\")'
  cellblock doctor --for systemd

Exit code: 0 if a container can be built, 1 if not; with --for too.";

pub fn main(options: Options) -> ExitCode {
    examine(&options).unwrap_or_else(|error| {
        eprintln!("cellblock doctor: {error}");
        ExitCode::FAILURE
    })
}

fn examine(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let diagnosis = runtime.block_on(diagnose(&Container::builder()));
    match options.platform {
        Some(platform) => print(diagnosis.snippet(platform.into()))?,
        None if options.json => print(serde_json::to_string(&diagnosis)? + "\n")?,
        None => print(&diagnosis)?,
    }
    Ok(if diagnosis.can_build() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
