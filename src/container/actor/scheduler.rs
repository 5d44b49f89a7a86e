//! The schedule of runs, resets and fingerprints: one at a time, in the order of their messages.
//! The runs beside a run take no turn.
//!
//! Invariant: an operation lasts until its request has its reply. An operation whose caller has
//! gone before its turn never begins. No run begins before its control group is ready for it.

use std::collections::VecDeque;
use std::future::pending;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cgroup::RunGroup;
use crate::container::message::{Operation, QueuedRun, RunKey};
use crate::container::processes::Pid1;
use crate::container::reply::{PendingReply, ReplySender, group_error, is_group_failure};
use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::limits::GroupLimits;
use crate::report::Protections;
use crate::wire::{KillReason, Reply, Request};

use super::besides::{BesideEvent, Besides};
use super::group_worker::{GroupWorker, Prepared};
use super::link::Link;
use super::live_run::{LiveRun, RunEvent, probe};

/// How long a run waits for the kernel to free memory of earlier runs.
const FREEING: Duration = Duration::from_millis(500);

const LEFT_CHARGED: &str = "what earlier runs left in memory counts for this one: reset the container, or delete it";

pub(super) struct Scheduler {
    queue: VecDeque<Operation>,
    current: Current,
    group: GroupWorker,
    besides: Besides,
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
    Run(LiveRun),
}

/// What happens to the group, or to an operation before its reply.
pub(super) enum Event {
    GroupIsBack(Result<Prepared>),
    PauseOver,
    Run(RunEvent),
    Beside((RunKey, BesideEvent)),
}

impl Scheduler {
    pub(super) fn new(group: Option<RunGroup>, protections: Protections, reply_timeout: Duration) -> Self {
        let besides = Besides::new(protections, reply_timeout);
        let group = GroupWorker::new(group);
        Self { queue: VecDeque::new(), current: Current::Idle, group, besides, protections, reply_timeout }
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.queue.push_back(operation);
    }

    /// Begins a run beside this one or, without a key, beside the one that is going on.
    pub(super) fn begin_beside(&mut self, key: Option<RunKey>, run: QueuedRun, link: &mut Link) -> Result<()> {
        let main = self.current.run().filter(|main| main.is_running() && key.is_none_or(|key| main.key() == key));
        let place = main.and_then(|_| self.group.place_beside());
        self.besides.begin(main.map(LiveRun::id), place, run, link)
    }

    /// Sends a signal to the program of a run.
    pub(super) fn signal(&mut self, key: RunKey, number: i32, reply: ReplySender<()>, link: &mut Link) -> Result<()> {
        match self.current.run().into_iter().chain(self.besides.sent()).find(|run| run.key() == key) {
            Some(run) => {
                link.request(&Request::Signal(run.id(), number), Vec::new(), PendingReply::Signaled(reply)).map(drop)
            }
            None => {
                reply.send(Err(Error::new(ErrorKind::NotRunning, Step::Signal))).ok();
                Ok(())
            }
        }
    }

    /// Takes the groups out: no run starts after this.
    pub(super) fn take_groups(&mut self) -> (GroupWorker, Besides) {
        let besides = Besides::new(self.protections, self.reply_timeout);
        (std::mem::replace(&mut self.group, GroupWorker::new(None)), std::mem::replace(&mut self.besides, besides))
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
        self.besides.clear_unsent();
        self.push(Operation::Reset(reset));
        self.interrupt(KillReason::Request, link)
    }

    /// How many runs may take as long as they like.
    pub(super) fn count_unhurried(&self) -> usize {
        self.sent_runs().filter(|run| run.is_unhurried()).count()
    }

    /// Resolves with the next event. Dropping the future loses nothing.
    pub(super) async fn event(&mut self) -> Event {
        let Self { current, group, besides, .. } = self;
        tokio::select! {
            biased;
            event = current.event() => event,
            event = besides.event() => Event::Beside(event),
            prepared = group.back() => Event::GroupIsBack(prepared),
        }
    }

    pub(super) fn handle(&mut self, event: Event, link: &mut Link) -> Result<()> {
        match (event, &mut self.current) {
            (Event::GroupIsBack(prepared), _) => self.take_back(prepared?, link),
            (Event::PauseOver, current) => {
                *current = Current::Idle;
                Ok(())
            }
            (Event::Run(event), Current::Run(run)) => run.handle(event, link),
            (Event::Run(_), _) => Ok(()),
            (Event::Beside(event), current) => {
                let main = current.run().filter(|main| main.is_running()).map(LiveRun::id);
                self.besides.handle(event, main, link)
            }
        }
    }

    /// Handles a time-out of the reply watchdog. `Err` is the reason to end the container.
    ///
    /// While a run dies, reports may be all that the init owes: then the init is not stuck, and a
    /// new probe checks that. If it owes the reply to the last probe as well, it is stuck.
    pub(super) fn on_timeout(&mut self, timeout: Error, link: &mut Link) -> Result<()> {
        let owes_reports_only = link.unanswered() == self.sent_runs().count();
        if !owes_reports_only || self.sent_runs().all(LiveRun::is_running) {
            return Err(timeout);
        }
        if self.sent_runs().any(LiveRun::is_too_late) {
            return Err(Error::lost("the init did not end a run at its time"));
        }
        probe(link)
    }

    /// Gives the process of a run to its caller.
    pub(super) fn show_process(&mut self, id: u64, fds: Vec<OwnedFd>, pid1: &Pid1) -> Result<()> {
        let run = match &mut self.current {
            Current::Run(run) if run.id() == id => Some(run),
            _ => self.besides.find(id),
        };
        let unasked = || Error::lost("the init named a process without a request for it");
        run.ok_or_else(unasked)?.show_process(fds, pid1)
    }

    /// The runs that the init has been sent.
    fn sent_runs(&self) -> impl Iterator<Item = &LiveRun> {
        self.current.run().into_iter().chain(self.besides.sent())
    }

    /// Records for the group what the reply to a run says about it.
    pub(super) fn account(&mut self, id: u64, reply: &Reply) {
        if self.current.id() != Some(id) {
            return self.besides.finish(id);
        }
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
        match &mut self.current {
            Current::Idle | Current::Request(_) => Ok(()),
            Current::Paused(_) | Current::AwaitingGroup => {
                self.current = Current::Idle;
                Ok(())
            }
            Current::Run(run) => run.kill(reason, link),
        }
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
        run.outcome.send(Err(group_error(failure).hinted(hint))).ok();
        Current::Idle
    }

    /// Sends the request of a run whose group is ready.
    fn send_run(&mut self, run: QueuedRun, link: &mut Link) -> Result<Current> {
        let to_request = |run, fds| (Request::StartRun(run), fds);
        let sent = LiveRun::send(run, self.protections, self.reply_timeout, link, to_request)?;
        Ok(sent.map_or(Current::Idle, Current::Run))
    }
}

impl Current {
    fn id(&self) -> Option<u64> {
        match self {
            Self::Idle | Self::AwaitingGroup | Self::Paused(_) => None,
            Self::Request(id) => Some(*id),
            Self::Run(run) => Some(run.id()),
        }
    }

    fn run(&self) -> Option<&LiveRun> {
        match self {
            Self::Run(run) => Some(run),
            _ => None,
        }
    }

    /// Resolves with the next event of this operation. Dropping the future loses nothing.
    async fn event(&mut self) -> Event {
        match self {
            Self::Idle | Self::AwaitingGroup | Self::Request(_) => pending().await,
            Self::Paused(end) => {
                sleep_until(*end).await;
                Event::PauseOver
            }
            Self::Run(run) => Event::Run(run.event().await),
        }
    }
}

fn begin(request: &Request, pending: PendingReply, link: &mut Link) -> Result<Current> {
    let id = link.request(request, Vec::new(), pending)?;
    Ok(id.map_or(Current::Idle, Current::Request))
}
