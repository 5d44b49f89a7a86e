//! Runs, resets and fingerprints, which take turns: one at a time, in the order in which they were asked for.
//!
//! Invariant: a turn lasts until its request has its reply. One whose caller has gone never begins, and a run whose caller
//! goes is killed by its id, so that a late kill never hits the next.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::fingerprint::Fingerprint;
use crate::limits::{GroupLimits, Held, Limit};
use crate::observe::WatchedRun;
use crate::report::{Protections, Report};
use crate::wire::{KillReason, Request, StartRun};

use super::Actor;
use super::pending::{Answer, PendingReply};

/// For how long a run waits for memory of earlier ones to be freed.
const FREEING: Duration = Duration::from_millis(500);

const LEFT_CHARGED: &str = "what earlier runs left in memory counts for this one: reset the container, or delete it";

/// What waits for its turn.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are runs")]
pub(in crate::container) enum Turn {
    Reset(Answer<()>),
    Fingerprint(Answer<Fingerprint>),
    Run(QueuedRun),
}

#[derive(Debug)]
pub(in crate::container) struct QueuedRun {
    pub(in crate::container) execve: StartRun,
    pub(in crate::container) fds: Vec<Arc<OwnedFd>>,
    pub(in crate::container) group: GroupLimits,
    pub(in crate::container) held: Vec<Held>,
    pub(in crate::container) progress: Progress,
    pub(in crate::container) outcome: Answer<Report>,
    /// Until when it waits for what earlier runs had in memory to be freed.
    pub(in crate::container) patience: Option<Instant>,
    /// Resolves when the run is to be killed. Its caller wants that, or has gone, where there is no reason.
    pub(in crate::container) killed: oneshot::Receiver<KillReason>,
}

/// What a run's caller wants to be told before its outcome.
#[derive(Debug)]
pub(in crate::container) enum Progress {
    Nothing,
    /// That its turn has come.
    Turn(oneshot::Sender<()>),
    /// The pid and a pidfd of its process. The init announces it, so a run with a gate waits there meanwhile.
    Forked(Answer<(u32, OwnedFd)>),
}

/// Whose turn it is.
pub(super) enum Current {
    Nobody,
    /// Nobody's before then: memory of earlier runs is being freed.
    Pause(Instant),
    /// This request's, for which there is nothing to do but to wait.
    Request(u64),
    /// This run's, for as long as it may be killed.
    Run(Running),
    /// This run's, which was killed or should have been, until then at most: the kernel takes its time to free much memory.
    Dying(u64, Instant),
}

pub(super) struct Running {
    id: u64,
    killed: oneshot::Receiver<KillReason>,
    forked: Option<Answer<(u32, OwnedFd)>>,
    /// For how long it may be on its way out.
    dying: Duration,
    /// When the init should long have ended it by itself.
    overdue: Option<Pin<Box<Sleep>>>,
}

/// What comes of a turn, beside its reply.
pub(super) enum Event {
    PauseOver,
    Killed(KillReason),
    Overdue,
}

impl Turn {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Reset(answer) => answer.is_closed(),
            Self::Fingerprint(answer) => answer.is_closed(),
            Self::Run(run) => run.outcome.is_closed(),
        }
    }
}

impl Current {
    fn id(&self) -> Option<u64> {
        match self {
            Self::Nobody | Self::Pause(_) => None,
            Self::Request(id) | Self::Run(Running { id, .. }) | Self::Dying(id, _) => Some(*id),
        }
    }

    /// Whether its reply may take as long as it likes: a run owes its process at once where somebody waits to see it, and its
    /// report only since its kill.
    pub(super) fn is_unhurried(&self) -> bool {
        matches!(self, Self::Run(Running { forked: None, .. }))
    }

    /// Dropping the future loses nothing.
    pub(super) async fn event(&mut self) -> Event {
        let run = match self {
            Self::Nobody | Self::Request(_) | Self::Dying(..) => return pending().await,
            Self::Pause(end) => {
                sleep_until(*end).await;
                return Event::PauseOver;
            }
            Self::Run(run) => run,
        };
        let overdue = async {
            match &mut run.overdue {
                Some(time) => time.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = &mut run.killed => Event::Killed(reason.unwrap_or(KillReason::Request)),
            () = overdue => Event::Overdue,
        }
    }
}

impl Actor {
    /// Starts what is next, if it is time.
    pub(super) fn next_turn(&mut self) -> Result<()> {
        if self.current.id().is_some_and(|id| !self.requests.is_unanswered(id)) {
            self.current = Current::Nobody;
        }
        while matches!(self.current, Current::Nobody) {
            self.current = match self.queue.pop_front() {
                None => break,
                Some(turn) if turn.is_abandoned() => continue,
                Some(Turn::Reset(answer)) => self.begin(&Request::Reset, PendingReply::Reset(answer))?,
                Some(Turn::Fingerprint(answer)) => {
                    self.begin(&Request::Fingerprint, PendingReply::Fingerprint(answer))?
                }
                Some(Turn::Run(run)) => self.begin_run(run)?,
            };
        }
        Ok(())
    }

    pub(super) fn happened(&mut self, event: Event) -> Result<()> {
        match event {
            Event::PauseOver => self.current = Current::Nobody,
            Event::Killed(reason) => self.end_turn(reason)?,
            Event::Overdue => self.owes_report()?,
        }
        Ok(())
    }

    /// Ends the pause, or the run that is going on.
    pub(super) fn end_turn(&mut self, reason: KillReason) -> Result<()> {
        match self.current {
            Current::Nobody | Current::Request(_) | Current::Dying(..) => Ok(()),
            Current::Pause(_) => {
                self.current = Current::Nobody;
                Ok(())
            }
            Current::Run(Running { id, .. }) => {
                self.requests.say(&self.socket, &Request::Kill(id, reason), Vec::new())?;
                self.owes_report()
            }
        }
    }

    /// From now on the report of the run that is going on is owed. The kernel may need long to free what it had; the init
    /// answers then, and is asked whether it does.
    fn owes_report(&mut self) -> Result<()> {
        if let Current::Run(Running { id, dying, .. }) = self.current {
            let end = Instant::now().checked_add(dying);
            self.current = end.map_or(Current::Request(id), |end| Current::Dying(id, end));
            self.probe()?;
        }
        Ok(())
    }

    /// The init has said nothing for as long as it may, for this reason.
    pub(super) fn is_silent(&mut self, reason: Error) -> Result<()> {
        match self.current {
            // All that it owes is the report. Where it owes the answer to a probe as well, it is stuck.
            Current::Dying(_, end) if self.requests.unanswered() == 1 => {
                if Instant::now() >= end {
                    return Err(Error::lost("the init did not end a run at its time"));
                }
                self.patience.renew();
                self.probe()
            }
            _ => Err(reason),
        }
    }

    fn probe(&mut self) -> Result<()> {
        let nobody = PendingReply::Ping(oneshot::channel().0);
        self.requests.ask(&self.socket, &Request::Ping, Vec::new(), nobody).map(drop)
    }

    /// Shows a run's process to its caller, once it is known to be the init's child and not somebody else's.
    pub(super) fn forked(&mut self, id: u64, mut fds: Vec<OwnedFd>) -> Result<()> {
        let unasked = || Error::lost("the init named a process that nobody had asked for");
        let (Some(pidfd), true, true) = (fds.pop(), fds.is_empty(), self.current.id() == Some(id)) else {
            return Err(unasked());
        };
        // Killed meanwhile: nobody waits for it.
        let Current::Run(run) = &mut self.current else { return Ok(()) };
        let answer = run.forked.take().ok_or_else(unasked)?;
        let result = match self.init.pid_of_child(&pidfd) {
            Ok(Some(pid)) => Ok((pid, pidfd)),
            Ok(None) => return Err(Error::lost("the init named a process that is not its own")),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Error::lost("the init named a process by what is no pidfd"));
            }
            Err(error) => Err(Error::io(ErrorKind::Host, Step::PidHook, error)),
        };
        drop(answer.send(result));
        Ok(())
    }

    fn begin(&mut self, request: &Request, promise: PendingReply) -> Result<Current> {
        let id = self.requests.ask(&self.socket, request, Vec::new(), promise)?;
        Ok(id.map_or(Current::Nobody, Current::Request))
    }

    /// Starts a run, in a group that is ready for it. Where that cannot be its caller is told, and it is nobody's turn.
    fn begin_run(&mut self, run: QueuedRun) -> Result<Current> {
        let now = Instant::now();
        match self.group.as_mut().map_or(Ok(None), |it| it.prepare(&run.group)) {
            Ok(None) => {}
            Ok(Some((joined, files))) => self.requests.say(&self.socket, &Request::Join(joined), files)?,
            // More is charged than the run may have. The init frees what a reset took away after it has answered.
            Err(Failure { errno: libc::EBUSY | libc::ENOMEM, .. }) if run.patience.is_none_or(|end| now < end) => {
                let patience = run.patience.or(Some(now + FREEING));
                self.queue.push_front(Turn::Run(QueuedRun { patience, ..run }));
                return Ok(Current::Pause(now + Duration::from_millis(1)));
            }
            Err(failure) => {
                let is_full = [libc::EBUSY, libc::ENOMEM].contains(&failure.errno);
                let hint = is_full.then(|| LEFT_CHARGED.to_owned());
                drop(run.outcome.send(Err(Error::failure(ErrorKind::Host, failure).hinted(hint))));
                return Ok(Current::Nobody);
            }
        }
        let QueuedRun { execve, fds, held, progress, outcome: answer, killed, .. } = run;
        let (wall, freeing) = (execve.times.wall, time_to_free(&held));
        let protections = Protections { syscalls: !execve.filter.is_empty(), ..self.protections };
        let promise = PendingReply::Run { answer, held, protections, watched: WatchedRun::start() };
        let Some(id) = self.requests.ask(&self.socket, &Request::StartRun(execve), fds, promise)? else {
            return Ok(Current::Nobody);
        };
        let forked = match progress {
            Progress::Nothing => None,
            // Whoever asked may have gone; then `killed` knows.
            Progress::Turn(turn) => {
                turn.send(()).ok();
                None
            }
            Progress::Forked(answer) => Some(answer),
        };
        let dying = self.patience.limit().saturating_add(freeing);
        let overdue = wall.and_then(|wall| Instant::now().checked_add(wall.checked_add(self.patience.limit())?));
        let overdue = overdue.map(|end| Box::pin(sleep_until(end)));
        Ok(Current::Run(Running { id, killed, forked, dying, overdue }))
    }
}

/// For how long the kernel may be at freeing what a run can have had in memory. Page tables take it longest, 60 ns for each
/// entry of 8 bytes: 8 s for 1 GiB of them.
fn time_to_free(held: &[Held]) -> Duration {
    const MOST: u64 = 64 << 30;
    const A_SECOND: u64 = 100 << 20;
    let memory = held.iter().find(|held| held.limit == Limit::Memory).map_or(MOST, |held| held.value.min(MOST));
    Duration::from_secs(memory / A_SECOND)
}
