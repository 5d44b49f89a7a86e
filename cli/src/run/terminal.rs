//! A program on a terminal of its own, connected to the terminal of this process.
//!
//! Invariant: the settings of this process's terminal are restored when [`run`] returns or is
//! dropped.

use std::error::Error;
use std::io;

use cellblock::process::Pty;
use cellblock::{Command, Container, Report, Stdio};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a program on a new terminal. It has the size of this process's terminal and the same
/// `TERM`.
pub async fn run(container: &Container, mut command: Command) -> Result<Report, Box<dyn Error>> {
    if !isatty(io::stdin()) {
        return Err("--tty needs a terminal as standard input".into());
    }
    let size = tcgetwinsize(io::stdin())?;
    command.stdin(Stdio::pty()).stdout(Stdio::pty()).stderr(Stdio::pty()).window_size(size.ws_row, size.ws_col);
    if let Some(kind) = std::env::var_os("TERM") {
        command.env("TERM", kind);
    }
    let mut resized = signal(SignalKind::window_change())?;
    let mut process = container.spawn(&command).await?;
    let pty = process.pty.take().ok_or("the program has no terminal")?;
    let raw_mode = RawMode::enter()?;
    let copied = tokio::select! {
        result = copy_output(&pty) => result,
        result = copy_input(&pty) => result,
        result = forward_resizes(&pty, &mut resized) => result,
    };
    drop(raw_mode);
    copied?;
    Ok(process.wait().await?)
}

async fn copy_output(mut program: &Pty) -> io::Result<()> {
    let mut terminal = tokio::io::stdout();
    tokio::io::copy(&mut program, &mut terminal).await?;
    terminal.flush().await
}

/// Returns only on an error: output may still come after the end of input.
async fn copy_input(mut program: &Pty) -> io::Result<()> {
    tokio::io::copy(&mut tokio::io::stdin(), &mut program).await?;
    std::future::pending().await
}

/// Returns only on an error.
async fn forward_resizes(program: &Pty, resized: &mut Signal) -> io::Result<()> {
    while resized.recv().await.is_some() {
        let size = tcgetwinsize(io::stdin())?;
        program.resize(size.ws_row, size.ws_col)?;
    }
    std::future::pending().await
}

/// The terminal of this process in raw mode: every key is passed on as it is pressed. Dropping it
/// restores the terminal's settings.
struct RawMode {
    settings_before: Termios,
}

impl RawMode {
    fn enter() -> io::Result<Self> {
        let settings_before = tcgetattr(io::stdin())?;
        let mut raw = settings_before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { settings_before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings_before) {
            eprintln!("cellblock run: cannot restore the terminal's settings: {error}");
        }
    }
}
