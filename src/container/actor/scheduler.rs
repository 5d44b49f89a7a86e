//! The schedule of runs, resets and fingerprints: one at a time, in the order of their messages.
//!
//! Invariant: an operation lasts until its request has its reply. An operation whose caller has
//! gone before its turn never begins. A run whose caller goes is killed by its id, so a late kill
//! never hits the next run. No run begins before the control group is ready for it.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cgroup::RunGroup;
use crate::container::message::{Operation, QueuedRun};
use crate::container::processes::Pid1;
use crate::container::reply::{PendingReply, PendingRun, ReplySender, is_group_failure};
use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::limits::{GroupLimits, Held, Limit};
use crate::observe::WatchedRun;
use crate::report::Protections;
use crate::wire::{KillReason, Reply, Request};

use super::group_worker::{GroupWorker, Prepared};
use super::link::Link;

/// How long a run waits for the kernel to free memory of earlier runs.
const FREEING: Duration = Duration::from_millis(500);

const LEFT_CHARGED: &str = "what earlier runs left in memory counts for this one: reset the container, or delete it";

pub(super) struct Scheduler {
    queue: VecDeque<Operation>,
    current: Current,
    group: GroupWorker,
    protections: Protections,
    reply_timeout: Duration,
}

/// The operation whose turn it is.
enum Current {
    Idle,
    /// None before the group is ready for the run that is the head of the queue.
    AwaitingGroup,
    /// None before this time, while the kernel frees memory of earlier runs.
    Paused(Instant),
    /// The request with this id, which ends by itself.
    Request(u64),
    /// A run that can be killed.
    Run(RunningRun),
    /// The run with this id, whose report is owed: it was killed, or is past its wall time. The
    /// kernel may need until `deadline` to free the memory of the run.
    Dying {
        id: u64,
        deadline: Instant,
    },
}

struct RunningRun {
    id: u64,
    killed: oneshot::Receiver<KillReason>,
    forked: Option<ReplySender<(u32, OwnedFd)>>,
    /// How long the run may take to die.
    dying_time: Duration,
    /// Fires when the init should long have ended the run at its wall time.
    overdue: Option<Pin<Box<Sleep>>>,
}

/// What happens to the group, or to an operation before its reply.
pub(super) enum Event {
    GroupIsBack(Result<Prepared>),
    PauseOver,
    Killed(KillReason),
    Overdue,
}

impl Scheduler {
    pub(super) fn new(group: Option<RunGroup>, protections: Protections, reply_timeout: Duration) -> Self {
        let group = GroupWorker::new(group);
        Self { queue: VecDeque::new(), current: Current::Idle, group, protections, reply_timeout }
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.queue.push_back(operation);
    }

    /// Takes the group out: no run starts after this.
    pub(super) fn take_group(&mut self) -> GroupWorker {
        std::mem::replace(&mut self.group, GroupWorker::new(None))
    }

    /// Starts the next operation, if none is current.
    pub(super) fn start_next(&mut self, link: &mut Link) -> Result<()> {
        if self.current.id().is_some_and(|id| !link.is_unanswered(id)) {
            self.current = Current::Idle;
        }
        while matches!(self.current, Current::Idle) {
            self.current = match self.queue.pop_front() {
                None => break,
                Some(operation) if operation.is_canceled() => continue,
                Some(Operation::Reset(sender)) => begin(&Request::Reset, PendingReply::Reset(sender), link)?,
                Some(Operation::Freeze(sender)) => begin(&Request::Freeze, PendingReply::Frozen(sender), link)?,
                Some(Operation::Fingerprint(sender)) => {
                    begin(&Request::Fingerprint, PendingReply::Fingerprint(sender), link)?
                }
                Some(Operation::Run(run)) => self.begin_run(run, link)?,
            };
        }
        Ok(())
    }

    /// Drops the queue, ends the current run and queues a reset.
    pub(super) fn renew(&mut self, reset: ReplySender<()>, link: &mut Link) -> Result<()> {
        self.queue.clear();
        self.push(Operation::Reset(reset));
        self.interrupt(KillReason::Request, link)
    }

    /// Whether the current operation may take as long as it likes. A run owes its process at once
    /// if the caller waits to see it. It owes its report only once it is killed.
    pub(super) fn is_unhurried(&self) -> bool {
        matches!(self.current, Current::Run(RunningRun { forked: None, .. }))
    }

    /// Resolves with the next event. Dropping the future loses nothing.
    pub(super) async fn event(&mut self) -> Event {
        let Self { current, group, .. } = self;
        tokio::select! {
            biased;
            event = current.event() => event,
            prepared = group.back() => Event::GroupIsBack(prepared),
        }
    }

    pub(super) fn handle(&mut self, event: Event, link: &mut Link) -> Result<()> {
        match event {
            Event::GroupIsBack(prepared) => self.take_back(prepared?, link)?,
            Event::PauseOver => self.current = Current::Idle,
            Event::Killed(reason) => self.interrupt(reason, link)?,
            Event::Overdue => self.await_report(link)?,
        }
        Ok(())
    }

    /// Handles a time-out of the reply watchdog. `Err` is the reason to end the container.
    ///
    /// While a run dies the report may be all that the init owes: then the init is not stuck, and a
    /// new probe checks that. If it owes the reply to the last probe as well, it is stuck.
    pub(super) fn on_timeout(&mut self, timeout: Error, link: &mut Link) -> Result<()> {
        match self.current {
            Current::Dying { deadline, .. } if link.unanswered() == 1 => {
                if Instant::now() >= deadline {
                    return Err(Error::lost("the init did not end a run at its time"));
                }
                probe(link)
            }
            _ => Err(timeout),
        }
    }

    /// Gives the process of a run to its caller, once it is known to be a child of the init.
    pub(super) fn show_process(&mut self, id: u64, mut fds: Vec<OwnedFd>, pid1: &Pid1) -> Result<()> {
        let unasked = || Error::lost("the init named a process without a request for it");
        let (Some(pidfd), true, true) = (fds.pop(), fds.is_empty(), self.current.id() == Some(id)) else {
            return Err(unasked());
        };
        // A run that was killed meanwhile has no caller that waits for its process.
        let Current::Run(run) = &mut self.current else { return Ok(()) };
        let sender = run.forked.take().ok_or_else(unasked)?;
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

    /// Records for the group what the reply to a run says about it.
    pub(super) fn account(&mut self, reply: &Reply) {
        match reply {
            Reply::Ended(measured) => self.group.finish_run(measured),
            // Another process has removed the group.
            Reply::Failed(failure) if is_group_failure(failure) => self.group.invalidate(),
            _ => {}
        }
    }

    /// Gives the runs after a reset another memory group.
    pub(super) fn renew_memory(&mut self) {
        self.group.renew_memory();
    }

    /// Ends the pause, or the run that is going on.
    fn interrupt(&mut self, reason: KillReason, link: &mut Link) -> Result<()> {
        match self.current {
            Current::Idle | Current::Request(_) | Current::Dying { .. } => Ok(()),
            Current::Paused(_) | Current::AwaitingGroup => {
                self.current = Current::Idle;
                Ok(())
            }
            Current::Run(RunningRun { id, .. }) => {
                link.notify(&Request::Kill(id, reason), Vec::new())?;
                self.await_report(link)
            }
        }
    }

    /// Notes that the report of the current run is owed from now on, and probes the init: it still
    /// answers while the kernel frees the memory of the run.
    fn await_report(&mut self, link: &mut Link) -> Result<()> {
        if let Current::Run(RunningRun { id, dying_time, .. }) = self.current {
            let deadline = Instant::now().checked_add(dying_time);
            self.current = deadline.map_or(Current::Request(id), |deadline| Current::Dying { id, deadline });
            probe(link)?;
        }
        Ok(())
    }

    /// Starts a run, or has it wait until the group is ready.
    fn begin_run(&mut self, run: QueuedRun, link: &mut Link) -> Result<Current> {
        if self.group.begin_run(&run.group) {
            return self.send_run(run, link);
        }
        self.queue.push_front(Operation::Run(run));
        Ok(Current::AwaitingGroup)
    }

    /// Takes the group that is ready, and has the init join it if it is a new one.
    fn take_back(&mut self, prepared: Prepared, link: &mut Link) -> Result<()> {
        let failed = self.group.take_back(prepared);
        if let Some((joined, files)) = self.group.take_join() {
            link.notify(&Request::Join(joined), files)?;
        }
        if matches!(self.current, Current::AwaitingGroup) {
            self.current = failed.map_or(Current::Idle, |(limits, failure)| self.refuse_run(&limits, failure));
        }
        Ok(())
    }

    /// Gives the failure of the group to the run that waits for it. While the kernel may still free
    /// memory, that run tries again after a moment.
    fn refuse_run(&mut self, limits: &GroupLimits, failure: Failure) -> Current {
        let mut run = match self.queue.pop_front() {
            Some(Operation::Run(run)) if run.group == *limits => run,
            // The group was prepared for another run.
            other => {
                other.into_iter().for_each(|other| self.queue.push_front(other));
                return Current::Idle;
            }
        };
        // The init frees what a reset took away only after it has answered the reset.
        let is_full = [libc::EBUSY, libc::ENOMEM].contains(&failure.errno);
        let now = Instant::now();
        if is_full && now < *run.memory_deadline.get_or_insert(now + FREEING) {
            self.queue.push_front(Operation::Run(run));
            return Current::Paused(now + Duration::from_millis(1));
        }
        let hint = is_full.then(|| LEFT_CHARGED.to_owned());
        run.outcome.send(Err(Error::failure(ErrorKind::Host, failure).hinted(hint))).ok();
        Current::Idle
    }

    /// Sends the request of a run whose group is ready.
    fn send_run(&mut self, run: QueuedRun, link: &mut Link) -> Result<Current> {
        let QueuedRun { request, fds, held, forked, outcome, killed, .. } = run;
        let dying_time = self.reply_timeout.saturating_add(time_to_free(&held));
        let overdue_after = request.times.wall.and_then(|wall| wall.checked_add(self.reply_timeout));
        let protections = Protections { syscalls: !request.filter.is_empty(), ..self.protections };
        let pending = PendingRun { outcome, held, protections, watched: WatchedRun::start() };
        let Some(id) = link.request(&Request::StartRun(request), fds, PendingReply::Run(pending))? else {
            return Ok(Current::Idle);
        };
        let overdue_at = overdue_after.and_then(|time| Instant::now().checked_add(time));
        let overdue = overdue_at.map(|at| Box::pin(sleep_until(at)));
        Ok(Current::Run(RunningRun { id, killed, forked, dying_time, overdue }))
    }
}

impl Current {
    fn id(&self) -> Option<u64> {
        match self {
            Self::Idle | Self::AwaitingGroup | Self::Paused(_) => None,
            Self::Request(id) | Self::Run(RunningRun { id, .. }) | Self::Dying { id, .. } => Some(*id),
        }
    }

    /// Resolves with the next event of this operation. Dropping the future loses nothing.
    async fn event(&mut self) -> Event {
        let run = match self {
            Self::Idle | Self::AwaitingGroup | Self::Request(_) | Self::Dying { .. } => return pending().await,
            Self::Paused(end) => {
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

fn begin(request: &Request, pending: PendingReply, link: &mut Link) -> Result<Current> {
    let id = link.request(request, Vec::new(), pending)?;
    Ok(id.map_or(Current::Idle, Current::Request))
}

/// Checks that the init still answers, with a ping that has no caller.
fn probe(link: &mut Link) -> Result<()> {
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
