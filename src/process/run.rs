//! The caller's end of a run.
//!
//! Invariant: dropping it kills the run. The container lives at least as long as it does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::command::PidHook;
use crate::container::origin::Origin;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::report::Report;
use crate::sys::socket;
use crate::wire::KillReason;

use super::kill::KillSwitch;
use super::pipe::{OutputPipe, Quota};

/// Resolves to the pid and a pidfd of a run's process.
pub(crate) type Forked = oneshot::Receiver<Result<(u32, OwnedFd)>>;

#[derive(Debug)]
pub(crate) struct RunHandle {
    /// The pid and a pidfd of the program's process on the host.
    process: Option<(u32, OwnedFd)>,
    outcome: Outcome,
    kill: KillSwitch,
    /// What both outputs may have together, if that is limited.
    quota: Option<Arc<Quota>>,
    /// Keeps the container alive, and has the reason of its death.
    origin: Origin,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a run has one, which becomes the larger variant")]
enum Outcome {
    Pending(oneshot::Receiver<Result<Report>>),
    /// The actor dropped the run. The record of the container's death has the reason.
    Dropped,
    Known(Result<Report>),
}

impl RunHandle {
    /// `output_limit` is in bytes, for both outputs together.
    pub(crate) fn new(
        origin: Origin,
        outcome: oneshot::Receiver<Result<Report>>,
        kill: KillSwitch,
        output_limit: Option<u64>,
    ) -> Self {
        let quota = output_limit.map(|bytes| Arc::new(Quota::new(bytes)));
        Self { process: None, outcome: Outcome::Pending(outcome), kill, quota, origin }
    }

    /// The pid of the program's process on the host, until the outcome is known.
    pub(super) fn pid(&self) -> Option<u32> {
        let (pid, _) = self.process.as_ref().filter(|_| !matches!(self.outcome, Outcome::Known(_)))?;
        Some(*pid)
    }

    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    /// Sends a signal to the program's process.
    pub(super) async fn signal(&self, number: i32) -> Result<()> {
        self.origin.mailbox.signal(self.origin.run, number).await
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn kill(&self, reason: KillReason) {
        self.kill.kill(reason);
    }

    pub(super) fn kill_switch(&self) -> KillSwitch {
        self.kill.clone()
    }

    /// An output of the run, under its output limit.
    pub(super) fn limited(&self, pipe: pipe::Receiver) -> OutputPipe {
        let quota = self.quota.as_ref().map(|quota| (Arc::clone(quota), self.kill_switch()));
        OutputPipe::new(pipe, quota)
    }

    /// Waits until the process exists. If the program cannot be executed, that is the outcome of
    /// the run, and no error here.
    pub(crate) async fn wait_forked(&mut self, forked: Forked) -> Result<()> {
        match forked.await {
            // A process that has been reaped has no pid any more.
            Ok(process) => self.process = process.ok(),
            Err(_) => match self.wait().await {
                Err(error) if error.kind() != ErrorKind::Exec => return Err(error),
                _ => {}
            },
        }
        Ok(())
    }

    /// Passes the process to the hook, and opens the gate if the hook agrees. Dropping the gate
    /// closes it for good.
    pub(crate) async fn pass_hook(&mut self, hook: &PidHook, forked: Forked, gate: OwnedFd) -> Result<()> {
        let (pid, pidfd) = match forked.await {
            Ok(process) => process?,
            // The process was not started, or the container ended: the outcome has the reason.
            Err(_) => return self.wait().await.map(drop),
        };
        self.process = Some((pid, pidfd.try_clone().fail(ErrorKind::Host, Step::PidHook)?));
        let decision = tokio::select! {
            biased;
            decision = hook.decide(pid, pidfd) => decision,
            outcome = self.wait() => return outcome.map(drop),
        };
        let refusal = match decision {
            Ok(()) => match socket::send(&gate, &[1], &[], true) {
                // The process has ended meanwhile, and the run has an outcome.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                sent => return sent.fail(ErrorKind::Host, Step::PidHook),
            },
            Err(refusal) => Error::io(ErrorKind::Exec, Step::PidHook, refusal),
        };
        drop(gate);
        // The container takes the next run only when this one is over.
        self.wait().await.ok();
        Err(refusal)
    }

    /// Waits for the outcome. Dropping the future loses nothing.
    pub(crate) async fn wait(&mut self) -> Result<Report> {
        if let Outcome::Pending(receiver) = &mut self.outcome {
            self.outcome = receiver.await.map_or(Outcome::Dropped, Outcome::Known);
        }
        if let Outcome::Dropped = self.outcome {
            self.outcome = Outcome::Known(Err(self.origin.mailbox.record().wait().await));
        }
        self.known().unwrap_or_else(|| unreachable!("the outcome was awaited"))
    }

    /// The outcome, if the run is over.
    pub(super) fn try_wait(&mut self) -> Option<Result<Report>> {
        if let Outcome::Pending(receiver) = &mut self.outcome {
            match receiver.try_recv() {
                Ok(result) => self.outcome = Outcome::Known(result),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => self.outcome = Outcome::Dropped,
            }
        }
        if let (Outcome::Dropped, Some(reason)) = (&self.outcome, self.origin.mailbox.record().reason()) {
            self.outcome = Outcome::Known(Err(reason.clone()));
        }
        self.known()
    }

    /// The outcome, if it is known. A report says whether the outputs have exceeded their limit so
    /// far.
    fn known(&self) -> Option<Result<Report>> {
        let Outcome::Known(result) = &self.outcome else { return None };
        Some(result.clone().map(|mut report| {
            report.evidence.output_exceeded = self.quota.as_ref().map(|quota| quota.is_exceeded());
            report
        }))
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        self.kill(KillReason::Request);
    }
}
