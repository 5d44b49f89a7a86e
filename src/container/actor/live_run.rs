//! A run that the init has been sent, until its report.
//!
//! Invariant: a run is killed by its id, so a late kill never hits another run.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::container::message::{QueuedRun, RunKey};
use crate::container::processes::Pid1;
use crate::container::reply::{PendingReply, PendingRun, ReplySender};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::{Held, Limit};
use crate::observe::WatchedRun;
use crate::report::Protections;
use crate::wire::{KillReason, Request, StartRun};

use super::link::Link;

pub(super) struct LiveRun {
    id: u64,
    key: RunKey,
    /// Gets the process of the run, if its caller waits to see it.
    forked: Option<ReplySender<(u32, OwnedFd)>>,
    /// How long the run may take to die.
    dying_time: Duration,
    phase: Phase,
}

enum Phase {
    Running {
        killed: oneshot::Receiver<KillReason>,
        /// Fires when the init should long have ended the run at its wall time.
        overdue: Option<Pin<Box<Sleep>>>,
    },
    /// The report is owed: the run was killed, or is past its wall time. The kernel may need until
    /// this time to free the memory of the run.
    Dying(Option<Instant>),
}

/// What happens to a run before its report.
#[derive(Clone, Copy, Debug)]
pub(super) enum RunEvent {
    Killed(KillReason),
    Overdue,
}

impl LiveRun {
    /// Sends the request of a run whose group is ready. `None`: it cannot be sent, and its caller
    /// has the error.
    pub(super) fn send(
        run: QueuedRun,
        protections: Protections,
        reply_timeout: Duration,
        link: &mut Link,
        to_request: impl FnOnce(StartRun, Vec<Arc<OwnedFd>>) -> (Request, Vec<Arc<OwnedFd>>),
    ) -> Result<Option<Self>> {
        let QueuedRun { key, request, fds, held, forked, outcome, span, killed, .. } = run;
        let dying_time = reply_timeout.saturating_add(time_to_free(&held));
        let overdue_after = request.times.wall.and_then(|wall| wall.checked_add(reply_timeout));
        let protections = Protections { syscalls: !request.filter.is_empty(), ..protections };
        let pending = PendingRun { outcome, held, protections, watched: WatchedRun::start(span) };
        let (request, fds) = to_request(request, fds);
        let Some(id) = link.request(&request, fds, PendingReply::Run(pending))? else {
            return Ok(None);
        };
        let overdue_at = overdue_after.and_then(|time| Instant::now().checked_add(time));
        let overdue = overdue_at.map(|at| Box::pin(sleep_until(at)));
        Ok(Some(Self { id, key, forked, dying_time, phase: Phase::Running { killed, overdue } }))
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn key(&self) -> RunKey {
        self.key
    }

    /// Whether nothing has killed the run.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Whether the init owes nothing of the run yet. It owes the process at once if the caller
    /// waits to see it, and the report once the run is killed.
    pub(super) fn is_unhurried(&self) -> bool {
        self.is_running() && self.forked.is_none()
    }

    /// Whether the report should have come by now.
    pub(super) fn is_too_late(&self) -> bool {
        matches!(self.phase, Phase::Dying(Some(deadline)) if Instant::now() >= deadline)
    }

    /// Resolves with the next event. Dropping the future loses nothing.
    pub(super) async fn event(&mut self) -> RunEvent {
        let Phase::Running { killed, overdue } = &mut self.phase else { return pending().await };
        let overdue = async {
            match overdue {
                Some(time) => time.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = killed => RunEvent::Killed(reason.unwrap_or(KillReason::Request)),
            () = overdue => RunEvent::Overdue,
        }
    }

    pub(super) fn handle(&mut self, event: RunEvent, link: &mut Link) -> Result<()> {
        match event {
            RunEvent::Killed(reason) => self.kill(reason, link),
            RunEvent::Overdue => self.await_report(link),
        }
    }

    pub(super) fn kill(&mut self, reason: KillReason, link: &mut Link) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        link.notify(&Request::Kill(self.id, reason), Vec::new())?;
        self.await_report(link)
    }

    /// Gives the process of the run to its caller, once it is known to be a child of the init.
    pub(super) fn show_process(&mut self, mut fds: Vec<OwnedFd>, pid1: &Pid1) -> Result<()> {
        let unasked = || Error::lost("the init named a process without a request for it");
        let (Some(pidfd), true) = (fds.pop(), fds.is_empty()) else { return Err(unasked()) };
        if !self.is_running() {
            // A run that was killed meanwhile has no caller that waits for its process.
            return Ok(());
        }
        let sender = self.forked.take().ok_or_else(unasked)?;
        let result = match pid1.pid_of_child(&pidfd) {
            Ok(Some(pid)) => Ok((pid, pidfd)),
            Ok(None) => return Err(Error::lost("the init named a process that is not its own")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Error::lost("the init named a process by what is no pidfd"));
            }
            Err(error) => Err(Error::io(ErrorKind::Host, Step::PidHook, error)),
        };
        sender.send(result).ok();
        Ok(())
    }

    /// Notes that the report is owed from now on, and probes the init: it still answers while the
    /// kernel frees the memory of the run.
    fn await_report(&mut self, link: &mut Link) -> Result<()> {
        self.phase = Phase::Dying(Instant::now().checked_add(self.dying_time));
        probe(link)
    }
}

/// Checks that the init still answers, with a ping that has no caller.
pub(super) fn probe(link: &mut Link) -> Result<()> {
    let pending = PendingReply::Ping(oneshot::channel().0);
    link.request(&Request::Ping, Vec::new(), pending).map(drop)
}

/// How long the kernel may take to free the memory of a run. Page tables take longest: 60 ns for
/// each entry of 8 bytes, which is 8 s for 1 GiB of them.
fn time_to_free(held: &[Held]) -> Duration {
    const MOST: u64 = 64 << 30;
    const BYTES_PER_SECOND: u64 = 100 << 20;
    let memory = held.iter().find(|held| held.limit == Limit::Memory).map_or(MOST, |held| held.value.min(MOST));
    Duration::from_secs(memory / BYTES_PER_SECOND)
}
