//! A running program and its streams.
//!
//! Invariant: a [`Process`] is the only owner of its run. Dropping it kills the run, whatever it was doing.

mod output;
mod streams;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::command::PidHook;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::report::Report;
use crate::sys::socket;
use crate::wire::KillReason;

pub use crate::pty::Pty;
use output::Quota;
pub use output::{Output, OutputPipe};
use streams::Streams;
pub(crate) use streams::{Opened, open_streams, pipe_of_two};

/// A program that runs in a container, from [`Container::spawn`].
///
/// Dropping it kills the program and everything that it started; the container finishes that by itself and then takes
/// the next run. The container lives on at least as long as this value.
#[derive(Debug)]
pub struct Process {
    /// Writes to the program's standard input, if that is [piped](crate::Stdio::piped). Dropping it is the end of input.
    pub stdin: Option<pipe::Sender>,
    /// Reads the program's standard output, if that is piped.
    pub stdout: Option<OutputPipe>,
    /// Reads the program's standard error, if that is piped.
    pub stderr: Option<OutputPipe>,
    /// The other end of the program's terminal, if it [has one](crate::Stdio::pty). Dropping it hangs up.
    pub pty: Option<Pty>,
    run: Run,
}

/// Resolves to the pid and a pidfd of a run's process.
pub(crate) type Forked = oneshot::Receiver<Result<(u32, OwnedFd)>>;

/// The caller's end of a run. Dropping it is the message to kill.
#[derive(Debug)]
pub(crate) struct Run {
    outcome: Outcome,
    kill: KillSwitch,
    quota: Option<Arc<Quota>>,
    container: Container,
}

/// Ends a run, once.
#[derive(Clone, Debug)]
pub(crate) struct KillSwitch(Arc<Mutex<Option<oneshot::Sender<KillReason>>>>);

impl KillSwitch {
    pub(crate) fn new() -> (Self, oneshot::Receiver<KillReason>) {
        let (kill, killed) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(kill)))), killed)
    }

    fn kill(&self, reason: KillReason) {
        if let Some(kill) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A run that is over has nobody to be told.
            kill.send(reason).ok();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill.kill(KillReason::Request);
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of a run, and it comes to be the larger")]
enum Outcome {
    Awaited(oneshot::Receiver<Result<Report>>),
    Known(Result<Report>),
}

impl Process {
    pub(crate) fn new(streams: Streams, run: Run) -> Self {
        let Streams { stdin, stdout, stderr, pty } = streams;
        let (stdout, stderr) = (stdout.map(|pipe| run.metered(pipe)), stderr.map(|pipe| run.metered(pipe)));
        Self { stdin, stdout, stderr, pty, run }
    }

    /// Waits until the program and everything that it started is dead, and tells what is known then.
    ///
    /// Drops [`stdin`](Self::stdin) first, so that a program that reads to the end gets there. Once it has answered it
    /// gives the same answer again.
    ///
    /// # Errors
    /// [`ErrorKind::Exec`] where the program could not be started: only then is it known. [`ErrorKind::Lost`] and
    /// [`ErrorKind::Destroyed`] where the container ended first.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the program goes on, and `wait` may be called again.
    pub async fn wait(&mut self) -> Result<Report> {
        drop(self.stdin.take());
        self.run.wait().await
    }

    /// Kills the program and everything that it started, and waits for their end. The report says signal 9, unless the
    /// program had ended by itself before.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// The kill is sent at the first poll; dropping the future afterwards only leaves out the waiting.
    pub async fn kill(&mut self) -> Result<Report> {
        self.start_kill();
        self.wait().await
    }

    /// Kills the program and everything that it started, without waiting for their end.
    pub fn start_kill(&mut self) {
        self.run.kill.kill(KillReason::Request);
    }
}

impl Run {
    pub(crate) fn new(
        container: Container,
        outcome: oneshot::Receiver<Result<Report>>,
        kill: KillSwitch,
        output: Option<u64>,
    ) -> Self {
        let quota = output.map(|bytes| Arc::new(Quota::new(bytes)));
        Self { outcome: Outcome::Awaited(outcome), kill, quota, container }
    }

    fn metered(&self, pipe: pipe::Receiver) -> OutputPipe {
        let quota = self.quota.as_ref().map(|left| (Arc::clone(left), self.kill.clone()));
        OutputPipe::new(pipe, quota)
    }

    /// Shows the process to the hook, and opens its gate if the hook says so. Dropping the gate leaves it shut for good.
    pub(crate) async fn pass(&mut self, hook: &PidHook, forked: Forked, gate: OwnedFd) -> Result<()> {
        let (pid, pidfd) = match forked.await {
            Ok(process) => process?,
            // It was not started, or the container ended: the outcome has the reason.
            Err(_) => return self.wait().await.map(drop),
        };
        let decision = tokio::select! {
            biased;
            decision = hook.decide(pid, pidfd) => decision,
            outcome = self.wait() => return outcome.map(drop),
        };
        let refusal = match decision {
            Ok(()) => match socket::send(&gate, &[1], &[], true) {
                // A process that has ended in the meantime has an outcome.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                sent => return sent.map_err(|error| Error::io(ErrorKind::Host, Step::PidHook, error)),
            },
            Err(refusal) => Error::io(ErrorKind::Exec, Step::PidHook, refusal),
        };
        drop(gate);
        // Only then is the container free for the next.
        drop(self.wait().await);
        Err(refusal)
    }

    pub(crate) async fn wait(&mut self) -> Result<Report> {
        if let Outcome::Awaited(outcome) = &mut self.outcome {
            let result = match outcome.await {
                Ok(result) => result,
                Err(_) => Err(self.container.death().await),
            };
            self.outcome = Outcome::Known(result);
        }
        match &self.outcome {
            Outcome::Known(result) => result.clone().map(|mut report| {
                report.evidence.output_exceeded = self.quota.as_ref().map(|quota| quota.is_exceeded());
                report
            }),
            Outcome::Awaited(_) => unreachable!("it was awaited above"),
        }
    }
}
