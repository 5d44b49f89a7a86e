//! A program on a terminal of its own, connected to the one that this process has.
//!
//! Invariant: the terminal's settings are what they were before when [`run`] is over or dropped.

use std::error::Error;
use std::io;

use cellblock::{Command, Container, Report, Stdio, process::Pty};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let raw = Raw::enter()?;
    let shown = tokio::select! {
        shown = show(&pty) => shown,
        typed = type_on(&pty) => typed,
        fitted = keep_fitting(&pty, &mut resized) => fitted,
    };
    drop(raw);
    shown?;
    Ok(process.wait().await?)
}

async fn show(mut program: &Pty) -> io::Result<()> {
    let mut terminal = tokio::io::stdout();
    tokio::io::copy(&mut program, &mut terminal).await?;
    terminal.flush().await
}

/// Ends only where it fails: after the end of input there is still something to show.
async fn type_on(mut program: &Pty) -> io::Result<()> {
    tokio::io::copy(&mut tokio::io::stdin(), &mut program).await?;
    std::future::pending().await
}

/// Ends only where it fails.
async fn keep_fitting(program: &Pty, resized: &mut Signal) -> io::Result<()> {
    while resized.recv().await.is_some() {
        let size = tcgetwinsize(io::stdin())?;
        program.resize(size.ws_row, size.ws_col)?;
    }
    std::future::pending().await
}

/// This process's terminal, handing on every key as it is pressed.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            eprintln!("run: the terminal could not be set back: {error}");
        }
    }
}
