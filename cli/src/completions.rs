//! `cellblock completions`: a script that completes this command in a shell.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::stdout::print;

/// Print a completion script for a shell
///
/// The script goes to standard output. The shell reads it from a file or from a command
/// substitution.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The shell that the script is for
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  bash:  eval \"$(cellblock completions bash)\"   (in ~/.bashrc)
  zsh:   cellblock completions zsh > \"${fpath[1]}/_cellblock\"
  fish:  cellblock completions fish > ~/.config/fish/completions/cellblock.fish";

pub fn main(options: Options, mut command: clap::Command) -> ExitCode {
    // `generate` panics on a write error, so the script is complete before it is written.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "cellblock", &mut script);
    match print(String::from_utf8_lossy(&script)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cellblock completions: {error}");
            ExitCode::FAILURE
        }
    }
}
