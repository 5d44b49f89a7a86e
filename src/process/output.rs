//! The collected output of a run.

use std::borrow::Cow;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::command::{Capture, Overflow};
use crate::error::{ErrorKind, Result, ResultExt, Step};
use crate::report::{Report, Status, Verdict};
use crate::wire::KillReason;

use super::kill::KillSwitch;
use super::pipe::OutputPipe;
use super::run::RunHandle;
use super::streams::HostStreams;

/// The report of a run, and what the program wrote, as far as it was kept: from
/// [`Container::output`](crate::Container::output).
///
/// ```no_run
/// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
/// use cellblock::Command;
///
/// let output = container.output(Command::new("ls")).await?;
/// if output.status().success() && !output.stdout_truncated {
///     println!("{}", output.stdout_lossy());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What is known about the run.
    pub report: Report,
    /// The beginning of the program's standard output. For a program on a terminal, the beginning
    /// of what the terminal showed.
    pub stdout: Vec<u8>,
    /// Whether the program wrote more to standard output than was kept.
    pub stdout_truncated: bool,
    /// The beginning of the program's standard error.
    pub stderr: Vec<u8>,
    /// Whether the program wrote more to standard error than was kept.
    pub stderr_truncated: bool,
}

impl Output {
    /// How the program's first process ended: the report's own status.
    pub fn status(&self) -> Status {
        self.report.status
    }

    /// The verdict on the report.
    pub fn verdict(&self) -> Verdict {
        self.report.verdict()
    }

    /// The standard output as text. What is not UTF-8 becomes U+FFFD.
    pub fn stdout_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// The standard error as text. What is not UTF-8 becomes U+FFFD.
    pub fn stderr_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// Reads the outputs to their ends while the program runs.
    ///
    /// The pipes stay open until the run is over: closing one that was cut at the output limit
    /// would end the program by `SIGPIPE` before the kill does.
    pub(crate) async fn collect(streams: HostStreams, mut run: RunHandle, capture: Capture) -> Result<Self> {
        let HostStreams { stdin, stdout, stderr, pty } = streams;
        drop(stdin);
        let is_on_terminal = stdout.is_none();
        let (mut stdout, mut stderr) = (stdout.map(|pipe| run.limited(pipe)), stderr.map(|pipe| run.limited(pipe)));
        let collector = Collector { capture, kill: run.kill_switch() };
        let (out, err, shown, report) = tokio::join!(
            collector.read(stdout.as_mut()),
            collector.read(stderr.as_mut()),
            collector.read(pty),
            run.wait()
        );
        report?;
        let out = if is_on_terminal { shown } else { out };
        let (out, err) = (out.fail(ErrorKind::Host, Step::Read)?, err.fail(ErrorKind::Host, Step::Read)?);
        Ok(Self {
            // Asked for again: only now is it known whether the outputs exceeded their limit.
            report: run.wait().await?,
            stdout: out.bytes,
            stdout_truncated: out.is_truncated || is_cut(stdout.as_ref()),
            stderr: err.bytes,
            stderr_truncated: err.is_truncated || is_cut(stderr.as_ref()),
        })
    }
}

fn is_cut(pipe: Option<&OutputPipe>) -> bool {
    pipe.is_some_and(OutputPipe::is_cut)
}

/// Reads outputs, and keeps the beginning of each.
struct Collector {
    capture: Capture,
    kill: KillSwitch,
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    is_truncated: bool,
}

impl Collector {
    /// Reads a stream to its end.
    async fn read(&self, stream: Option<impl AsyncRead + Unpin>) -> io::Result<Collected> {
        let Some(mut stream) = stream else { return Ok(Collected::default()) };
        let mut bytes = Vec::new();
        (&mut stream).take(self.capture.bytes as u64).read_to_end(&mut bytes).await?;
        let is_truncated = bytes.len() == self.capture.bytes && stream.read(&mut [0]).await? > 0;
        if is_truncated {
            self.handle_overflow();
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
        Ok(Collected { bytes, is_truncated })
    }

    fn handle_overflow(&self) {
        match self.capture.overflow {
            Overflow::Discard => {}
            Overflow::Kill => self.kill.kill(KillReason::Output),
        }
    }
}
