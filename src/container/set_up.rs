//! The set-up of a container: commands that run once, and whose files resets restore.

use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::process::Output;

use super::handle::Container;

/// Runs the commands in a new container. Destroys it if one fails.
pub(super) async fn run_setup_commands(container: Container, commands: &[Command]) -> Result<Container> {
    if commands.is_empty() {
        return Ok(container);
    }
    match set_up(&container, commands).await {
        Ok(()) => Ok(container),
        Err(error) => {
            container.destroy().await;
            Err(error)
        }
    }
}

/// Runs the commands, and has resets keep what they leave.
async fn set_up(container: &Container, commands: &[Command]) -> Result<()> {
    for command in commands {
        let output = container.output(command).await?;
        if !output.report.status.success() {
            return Err(setup_error(&output));
        }
    }
    container.freeze().await
}

fn setup_error(Output { report, stdout, stderr, .. }: &Output) -> Error {
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let printed = [text(stdout), text(stderr)].join("\n");
    Error::new(ErrorKind::Build, Step::SetUp).detail(format!("{}: {}", report.status, printed.trim()))
}
