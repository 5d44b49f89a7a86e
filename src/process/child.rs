//! A running program and its streams.

use std::io;
use std::os::fd::BorrowedFd;

use tokio::net::unix::pipe;

use crate::container::origin::Origin;
use crate::error::Result;
use crate::pty::Pty;
use crate::report::Report;
use crate::wire::KillReason;

use super::kill::KillHandle;
use super::pipe::OutputPipe;
use super::run::RunHandle;
use super::signal::Signal;
use super::streams::HostStreams;

/// A program that runs in a container, from [`Container::spawn`](crate::Container::spawn).
///
/// Dropping it kills the program and everything that it started. The container reaps them in the
/// background, and then takes the next run. The container lives at least as long as this value.
///
/// ```no_run
/// # async fn example(container: &cellblock::Container) -> Result<(), Box<dyn std::error::Error>> {
/// use cellblock::{Command, Stdio};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
///
/// let mut command = Command::new("bc");
/// command.stdin(Stdio::piped()).stdout(Stdio::piped());
/// let mut process = container.spawn(&command).await?;
/// let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
/// process.stdin.as_mut().expect("it is piped").write_all(b"6 * 7\n").await?;
/// assert_eq!(lines.next_line().await?.as_deref(), Some("42"));
/// process.wait().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it kills the program"]
pub struct Process {
    /// Writes to the program's standard input, if that is [piped](crate::Stdio::piped). Dropping it
    /// is the end of input.
    pub stdin: Option<pipe::Sender>,
    /// Reads the program's standard output, if that is piped.
    pub stdout: Option<OutputPipe>,
    /// Reads the program's standard error, if that is piped.
    pub stderr: Option<OutputPipe>,
    /// The other end of the program's terminal, if it [has one](crate::Stdio::pty). Dropping it
    /// hangs up.
    pub pty: Option<Pty>,
    run: RunHandle,
}

impl Process {
    pub(crate) fn new(streams: HostStreams, run: RunHandle) -> Self {
        let HostStreams { stdin, stdout, stderr, pty } = streams;
        let (stdout, stderr) = (stdout.map(|pipe| run.limited(pipe)), stderr.map(|pipe| run.limited(pipe)));
        Self { stdin, stdout, stderr, pty, run }
    }

    /// Where the run comes from.
    pub(crate) fn origin(&self) -> &Origin {
        self.run.origin()
    }

    /// The process id of the program on the host, as in the host's own `/proc`.
    ///
    /// `None` once [`wait`](Self::wait), [`try_wait`](Self::try_wait) or [`kill`](Self::kill) has
    /// returned the outcome: the id may be another process's then. Also `None` if the program had
    /// ended before the host could look its id up, or was never executed.
    pub fn id(&self) -> Option<u32> {
        self.run.pid()
    }

    /// A pidfd of the program's process. It becomes readable when that process ends, and never
    /// comes to mean another process.
    ///
    /// The host process may lack the permission to signal the process by it: the program usually
    /// has a user id of its own. [`signal`](Self::signal) needs no permission. `None` where
    /// [`id`](Self::id) was `None` from the start.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.run.pidfd()
    }

    /// Sends a signal to the program's first process.
    ///
    /// The init sends it, while the process has not been reaped: no other process ever gets it. The
    /// processes that the program started get none, and a program that is stopped goes on to use
    /// its wall time.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`](crate::ErrorKind::NotRunning) if the program has ended.
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) and
    /// [`ErrorKind::Destroyed`](crate::ErrorKind::Destroyed) if the container has.
    ///
    /// # Cancel safety
    /// If the future is dropped, the signal may or may not be sent.
    ///
    /// ```no_run
    /// # async fn example(interpreter: &cellblock::Process) -> cellblock::Result<()> {
    /// interpreter.signal(cellblock::process::Signal::INTERRUPT).await?;
    /// # Ok(()) }
    /// ```
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        self.run.signal(signal.as_raw()).await
    }

    /// Sets the size of the program's [terminal](Self::pty), in characters.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] without a terminal, or if [`pty`](Self::pty) was taken: then
    /// [`Pty::resize`] does it. Otherwise the kernel's, of ioctl(2) with `TIOCSWINSZ`.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.pty.as_ref().ok_or(io::ErrorKind::NotFound)?.resize(rows, columns)
    }

    /// Waits until the program and everything that it started is dead, and returns the report.
    ///
    /// Drops [`stdin`](Self::stdin) first, so that a program that reads to the end of its input
    /// gets there. Every later call returns the same result.
    ///
    /// # Errors
    /// [`ErrorKind::Exec`](crate::ErrorKind::Exec) if the program could not be started.
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) and
    /// [`ErrorKind::Destroyed`](crate::ErrorKind::Destroyed) if the container ended first.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the program goes on, and `wait` may be called again.
    ///
    /// ```no_run
    /// # async fn example(mut process: cellblock::Process) -> cellblock::Result<()> {
    /// let report = process.wait().await?;
    /// println!("{} after {:?}", report.status, report.usage.wall);
    /// # Ok(()) }
    /// ```
    pub async fn wait(&mut self) -> Result<Report> {
        drop(self.stdin.take());
        self.run.wait().await
    }

    /// The report, if the program and everything that it started is dead; `None` if not.
    ///
    /// Unlike [`wait`](Self::wait) it leaves [`stdin`](Self::stdin) open.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// ```no_run
    /// # async fn example(process: &mut cellblock::Process) -> cellblock::Result<()> {
    /// match process.try_wait()? {
    ///     Some(report) => println!("{}", report.status),
    ///     None => println!("process {:?} runs", process.id()),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<Report>> {
        self.run.try_wait().transpose()
    }

    /// Kills the program and everything that it started, and waits until they are dead. The report
    /// says signal 9, unless the program has ended by itself before.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// The kill is sent at the first poll. Dropping the future later only skips the wait.
    ///
    /// ```no_run
    /// # async fn example(process: &mut cellblock::Process) -> cellblock::Result<()> {
    /// let report = process.kill().await?;
    /// # Ok(()) }
    /// ```
    pub async fn kill(&mut self) -> Result<Report> {
        self.start_kill();
        self.wait().await
    }

    /// Kills the program and everything that it started, without waiting until they are dead.
    pub fn start_kill(&mut self) {
        self.run.kill(KillReason::Request);
    }

    /// A handle that kills this run from another task.
    pub fn kill_handle(&self) -> KillHandle {
        KillHandle::new(self.run.kill_switch())
    }
}
