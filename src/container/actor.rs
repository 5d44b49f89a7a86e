//! The actor: one task that owns one container's socket.
//!
//! Invariant: every promise is answered. A message is either in the queue, sent and pending, or answered; when the actor
//! ends, for whatever reason, the reason is recorded before the promises that are left are dropped, and whoever waits on
//! one looks it up there.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cgroup::Group;
use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::fingerprint::Fingerprint;
use crate::limits::{GroupLimits, Held};
use crate::observe::WatchedRun;
use crate::report::{Protections, Reason, Report};
use crate::sys::reactor::Async;
use crate::wire::{self, Datagram, Decoder, Execve, Message as Frame, OpenFile, Reply, Request, Symlink};

use super::builder::Builder;
use super::launch::{Init, Launched, last_words, launch, receive};
use super::loan::returned;
use super::{Made, Shared};

/// For how long a run waits for memory of earlier ones to be freed.
const FREEING: Duration = Duration::from_millis(500);

const LEFT_CHARGED: &str = "what earlier runs left in memory counts for this one: reset the container, or delete it";

/// As far off as a clock is asked to look.
const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

type Answer<T> = oneshot::Sender<Result<T>>;

/// What a handle sends: its question, and whose it is.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) from: Arc<Shared>,
    pub(super) message: Message,
}

/// What a handle asks of the actor.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are runs")]
pub(super) enum Message {
    Ping(Answer<()>),
    Delete(PathBuf, Answer<()>),
    Open(Vec<OpenFile>, Answer<Vec<Result<OwnedFd>>>),
    Symlink(Vec<Symlink>, Answer<Vec<Result<()>>>),
    Reset(Answer<()>),
    Fingerprint(Answer<Fingerprint>),
    Run(QueuedRun),
    /// Ends all that the handles so far have asked for, resets, and listens to these instead.
    Renew(Arc<Shared>, Answer<()>),
}

#[derive(Debug)]
pub(super) struct QueuedRun {
    pub(super) execve: Execve,
    pub(super) fds: Vec<Arc<OwnedFd>>,
    pub(super) group: GroupLimits,
    pub(super) held: Vec<Held>,
    pub(super) progress: Progress,
    pub(super) outcome: Answer<Report>,
    /// Until when it waits for what earlier runs had in memory to be freed.
    pub(super) patience: Option<Instant>,
    /// Resolves when the run is to be killed. Its caller wants that, or has gone, where there is no reason.
    pub(super) killed: oneshot::Receiver<Reason>,
}

/// What a run's caller wants to be told before its outcome.
#[derive(Debug)]
pub(super) enum Progress {
    Nothing,
    /// That its turn has come.
    Turn(oneshot::Sender<()>),
    /// The pid and a pidfd of its process, which waits at its gate.
    Forked(Answer<(u32, OwnedFd)>),
}

/// What takes its turn: runs and resets, one at a time, and looks at what they leave.
#[expect(clippy::large_enum_variant, reason = "nearly all are runs")]
enum Turn {
    Reset(Answer<()>),
    Fingerprint(Answer<Fingerprint>),
    Run(QueuedRun),
}

/// Who waits for the reply to a request.
enum Pending {
    Ping(Answer<()>),
    Deleted(Answer<()>),
    Opened(usize, Answer<Vec<Result<OwnedFd>>>),
    Linked(usize, Answer<Vec<Result<()>>>),
    Reset(Answer<()>),
    Fingerprint(Answer<Fingerprint>),
    Run(Answer<Report>, Vec<Held>, Protections, WatchedRun),
}

/// The run in the container, for as long as it may be killed.
struct Current {
    id: u64,
    killed: oneshot::Receiver<Reason>,
    forked: Option<Answer<(u32, OwnedFd)>>,
    /// When the init should long have ended it by itself.
    overdue: Option<Instant>,
}

pub(super) struct Actor {
    messages: mpsc::Receiver<Letter>,
    /// The handles that it listens to, which are told why it ended.
    record: RecordDeath,
    socket: Async,
    decoder: Decoder,
    init: Init,
    group: Option<Group>,
    protections: Protections,
    outbox: VecDeque<Datagram>,
    queue: VecDeque<Turn>,
    /// The id of the run or reset whose turn it is.
    turn: Option<u64>,
    /// When the next turn is tried again.
    retry: Option<Instant>,
    current: Option<Current>,
    pending: HashMap<u64, Pending>,
    last_id: u64,
    /// Since when the init has said nothing, where it owes an answer.
    silent_since: Instant,
    patience: Duration,
}

impl Actor {
    /// The task of a container, from its start to its end.
    pub(super) async fn build_and_serve(
        builder: Builder,
        messages: mpsc::Receiver<Letter>,
        shared: Arc<Shared>,
        ready: oneshot::Sender<Result<Made>>,
    ) {
        let record = RecordDeath(shared);
        let launched = match launch(&builder).await {
            Ok(launched) => launched,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Where nobody waits for it any more there is no handle either, and it ends at once.
        drop(ready.send(Ok(launched.made)));
        Self::serve_to_the_end(launched, messages, record, builder.reply_timeout).await;
    }

    async fn serve_to_the_end(
        launched: Launched,
        messages: mpsc::Receiver<Letter>,
        record: RecordDeath,
        patience: Duration,
    ) {
        let Launched { socket, decoder, init, stderr, group, made } = launched;
        let mut actor = Self {
            messages,
            record,
            socket,
            decoder,
            init,
            group,
            protections: made.protections,
            outbox: VecDeque::new(),
            queue: VecDeque::new(),
            turn: None,
            retry: None,
            current: None,
            pending: HashMap::new(),
            last_id: 0,
            silent_since: Instant::now(),
            patience,
        };
        let reason = actor.serve().await;
        let Self { init, group, pending, queue, current, messages, record, socket, decoder, outbox, .. } = actor;
        let reason = bury(init, group, stderr, reason).await;
        // Nothing is left when that is told.
        drop((socket, decoder, outbox));
        record.set(reason);
        // Only now the promises that are left: their owners look for the reason.
        drop((pending, queue, current, messages));
    }

    /// Serves until the container is to end, and says why.
    async fn serve(&mut self) -> Error {
        // Set again only when it fires: a busy container does not pay for it at every request.
        let mut silence = pin!(sleep_until(Instant::now()));
        // A run's own, and gone with it.
        let mut lateness = pin!(None::<Sleep>);
        loop {
            let (owes, overdue) = (self.owes(), self.current.as_ref().and_then(|current| current.overdue));
            if lateness.as_ref().as_pin_ref().map(|sleep| sleep.deadline()) != overdue {
                lateness.set(overdue.map(sleep_until));
            }
            let late = async {
                match lateness.as_mut().as_pin_mut() {
                    Some(sleep) => sleep.await,
                    None => pending().await,
                }
            };
            let killed = async {
                match &mut self.current {
                    Some(current) => (&mut current.killed).await.unwrap_or(Reason::Request),
                    None => pending().await,
                }
            };
            let pause = async {
                match self.retry {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let step = tokio::select! {
                biased;
                () = self.record.0.end.cancelled() => return destroyed(),
                frame = receive(&self.socket, &mut self.decoder, self.pending.len() > 1) => match frame {
                    Ok(Some(frame)) => self.receive(frame),
                    Ok(None) => Err(Error::lost("the init ended")),
                    Err(broken) => Err(Error::lost(format!("the init sent {broken}"))),
                },
                sent = flush(&self.socket, &mut self.outbox), if !self.outbox.is_empty() => self.sent(sent),
                reason = killed => self.kill(reason),
                () = pause => {
                    self.retry = None;
                    Ok(())
                }
                () = &mut silence, if owes => {
                    // Patience that outlasts the clock has no end.
                    let end = self.silent_since.checked_add(self.patience).unwrap_or_else(|| Instant::now() + YEARS);
                    if Instant::now() >= end {
                        return Error::lost(format!("the init owed an answer for {:?}", self.patience));
                    }
                    silence.as_mut().reset(end);
                    continue;
                }
                () = late => return Error::lost("the init did not end a run at its time"),
                message = self.messages.recv(), if self.outbox.is_empty() => match message {
                    Some(message) => self.take(message),
                    None => return destroyed(),
                },
            };
            if let Err(reason) = step.and_then(|()| self.next_turn()) {
                return reason;
            }
        }
    }

    fn take(&mut self, Letter { from, message }: Letter) -> Result<()> {
        if !Arc::ptr_eq(&from, &self.record.0) {
            // Its promise is dropped with it, and whoever waits looks for the reason.
            return Ok(());
        }
        match message {
            Message::Ping(answer) => self.request(&Request::Ping, Vec::new(), Pending::Ping(answer)).map(drop),
            Message::Delete(path, answer) => {
                self.request(&Request::Delete(path), Vec::new(), Pending::Deleted(answer)).map(drop)
            }
            Message::Open(files, answer) => {
                let count = files.len();
                self.request(&Request::Open(files), Vec::new(), Pending::Opened(count, answer)).map(drop)
            }
            Message::Symlink(links, answer) => {
                let count = links.len();
                self.request(&Request::Symlink(links), Vec::new(), Pending::Linked(count, answer)).map(drop)
            }
            Message::Reset(answer) => {
                self.queue.push_back(Turn::Reset(answer));
                Ok(())
            }
            Message::Fingerprint(answer) => {
                self.queue.push_back(Turn::Fingerprint(answer));
                Ok(())
            }
            Message::Run(run) => {
                self.queue.push_back(Turn::Run(run));
                Ok(())
            }
            // Whoever had it wanted it destroyed, and that may be because it is not as it should be.
            Message::Renew(..) if self.record.0.end.is_cancelled() => Err(destroyed()),
            Message::Renew(next, answer) => {
                self.record.hand_over(next);
                self.queue.clear();
                self.retry = None;
                self.queue.push_back(Turn::Reset(answer));
                self.kill(Reason::Request)
            }
        }
    }

    /// Starts the next run or reset, if it is time. One whose caller has gone never starts.
    fn next_turn(&mut self) -> Result<()> {
        while self.turn.is_none() && self.retry.is_none() {
            self.turn = match self.queue.pop_front() {
                None => return Ok(()),
                Some(Turn::Reset(answer)) if answer.is_closed() => None,
                Some(Turn::Reset(answer)) => self.request(&Request::Reset, Vec::new(), Pending::Reset(answer))?,
                Some(Turn::Fingerprint(answer)) if answer.is_closed() => None,
                Some(Turn::Fingerprint(answer)) => {
                    self.request(&Request::Fingerprint, Vec::new(), Pending::Fingerprint(answer))?
                }
                Some(Turn::Run(run)) if run.outcome.is_closed() => None,
                Some(Turn::Run(run)) => self.begin(run)?,
            };
        }
        Ok(())
    }

    /// Starts a run, in a group that is ready for it. `None` where that cannot be, which the caller is told.
    fn begin(&mut self, run: QueuedRun) -> Result<Option<u64>> {
        let now = Instant::now();
        let prepared = self.group.as_mut().map_or(Ok(None), |it| it.prepare(&run.group));
        let QueuedRun { execve, fds, held, progress, outcome, killed, .. } = match prepared {
            Ok(None) => run,
            Ok(Some((joined, files))) => {
                self.say(&Request::Join(joined), files)?;
                run
            }
            // More is charged than the run may have. The init frees what a reset took away after it has answered.
            Err(Failure { errno: libc::EBUSY | libc::ENOMEM, .. }) if run.patience.is_none_or(|end| now < end) => {
                self.retry = Some(now + Duration::from_millis(1));
                let patience = run.patience.or(Some(now + FREEING));
                self.queue.push_front(Turn::Run(QueuedRun { patience, ..run }));
                return Ok(None);
            }
            Err(failure) => {
                let is_full = [libc::EBUSY, libc::ENOMEM].contains(&failure.errno);
                let hint = is_full.then(|| LEFT_CHARGED.to_owned());
                drop(run.outcome.send(Err(Error::failure(ErrorKind::Host, failure).hinted(hint))));
                return Ok(None);
            }
        };
        let wall = execve.times.wall;
        let protections = Protections { syscalls: !execve.filter.is_empty(), ..self.protections };
        let pending = Pending::Run(outcome, held, protections, WatchedRun::start());
        let id = self.request(&Request::Execve(execve), fds, pending)?;
        if let Some(id) = id {
            let forked = match progress {
                Progress::Nothing => None,
                // Whoever asked may have gone; then `killed` knows.
                Progress::Turn(turn) => {
                    turn.send(()).ok();
                    None
                }
                Progress::Forked(answer) => Some(answer),
            };
            let overdue = wall.and_then(|wall| Instant::now().checked_add(wall.checked_add(self.patience)?));
            self.current = Some(Current { id, killed, forked, overdue });
        }
        Ok(id)
    }

    /// Sends a request and notes who waits for its reply. `None` where it cannot be sent, which the caller is told.
    fn request(&mut self, request: &Request, fds: Vec<Arc<OwnedFd>>, pending: Pending) -> Result<Option<u64>> {
        self.last_id += 1;
        let id = self.last_id;
        let datagrams = match wire::encode(id, request, fds) {
            Ok(datagrams) => datagrams,
            Err(error) => {
                // Too large is the caller's doing; anything else is the host's lack.
                let is_too_large = error.raw_os_error() == Some(libc::EMSGSIZE);
                let kind = if is_too_large { ErrorKind::InvalidInput } else { ErrorKind::Host };
                pending.refuse(Error::io(kind, Step::Send, error));
                return Ok(None);
            }
        };
        self.note_debt();
        self.pending.insert(id, pending);
        self.outbox.extend(datagrams);
        let sent = flush_now(&self.socket, &mut self.outbox);
        self.sent(sent)?;
        Ok(self.pending.contains_key(&id).then_some(id))
    }

    /// Looks at how sending went. A message that the kernel refuses as a whole is its caller's failure; one that has
    /// begun is the container's.
    fn sent(&mut self, result: io::Result<()>) -> Result<()> {
        let Err(error) = result else { return Ok(()) };
        let refused = self.outbox.front().and_then(|datagram| datagram.begins);
        let is_closed = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        match refused.and_then(|id| self.pending.remove(&id)) {
            Some(pending) if !is_closed => {
                pending.refuse(Error::io(ErrorKind::Host, Step::Send, error));
                self.outbox.pop_front();
                while self.outbox.front().is_some_and(|datagram| datagram.begins.is_none()) {
                    self.outbox.pop_front();
                }
                Ok(())
            }
            _ if is_closed => Err(Error::lost("the init ended")),
            _ => Err(Error::lost(format!("the init cannot be sent to: {error}"))),
        }
    }

    /// Ends the run that is going on; from now on its report is owed.
    fn kill(&mut self, reason: Reason) -> Result<()> {
        self.note_debt();
        let Some(Current { id, .. }) = self.current.take() else {
            return Ok(());
        };
        self.say(&Request::Kill(id, reason), Vec::new())
    }

    /// Sends a request that has no reply.
    fn say(&mut self, request: &Request, fds: Vec<Arc<OwnedFd>>) -> Result<()> {
        let datagrams = wire::encode(0, request, fds);
        self.outbox.extend(datagrams.map_err(|error| Error::io(ErrorKind::Host, Step::Send, error))?);
        let sent = flush_now(&self.socket, &mut self.outbox);
        self.sent(sent)
    }

    /// Gives a reply to whoever waits for it. One that nobody can be waiting for is the container's end.
    fn receive(&mut self, Frame { id, body, fds }: Frame<Reply>) -> Result<()> {
        if matches!(body, Reply::Forked) {
            return self.forked(id, fds);
        }
        let Some(pending) = self.pending.remove(&id) else {
            return Err(Error::lost(format!("the init answered what nobody had asked: {body:?}")));
        };
        self.silent_since = Instant::now();
        if !fds.is_empty() && !matches!(body, Reply::Opened(_)) {
            return Err(Error::lost("the init sent descriptors that nobody had asked for"));
        }
        // An answer that nobody takes is dropped, and closes what it holds.
        match (pending, body) {
            (Pending::Ping(answer) | Pending::Deleted(answer) | Pending::Reset(answer), Reply::Done) => {
                drop(answer.send(Ok(())));
            }
            (Pending::Run(answer, held, protections, watched), Reply::Ended(measured))
                if measured.status.is_possible() =>
            {
                if let Some(group) = &mut self.group {
                    group.ran(&measured.usage);
                }
                let report = Report::new(measured, held, protections);
                watched.ended(&report);
                drop(answer.send(Ok(report)));
            }
            (Pending::Opened(count, answer), Reply::Opened(results)) => {
                let opened = results.iter().filter(|result| result.is_none()).count();
                if results.len() != count || opened != fds.len() || !fds.iter().all(is_regular_file) {
                    return Err(Error::lost("the init's results do not fit its descriptors"));
                }
                drop(answer.send(Ok(with_fds(results, fds))));
            }
            (Pending::Linked(count, answer), Reply::Linked(results)) if results.len() == count => {
                let result = |failure| Err(Error::failure(ErrorKind::File, failure));
                drop(answer.send(Ok(results.into_iter().map(|failure| failure.map_or(Ok(()), result)).collect())));
            }
            (Pending::Opened(_, answer), Reply::Failed(failure)) => {
                drop(answer.send(Err(Error::failure(ErrorKind::Host, failure))));
            }
            (Pending::Run(answer, ..), Reply::Failed(failure)) => {
                let of_group = matches!(failure.step, Step::EnterGroup | Step::ReadGroup);
                if let (true, Some(group)) = (of_group, &mut self.group) {
                    // Somebody has removed it.
                    group.forget();
                }
                let kind = if of_group { ErrorKind::Host } else { ErrorKind::Exec };
                drop(answer.send(Err(Error::failure(kind, failure))));
            }
            (Pending::Deleted(answer), Reply::Failed(failure)) => {
                drop(answer.send(Err(Error::failure(ErrorKind::File, failure))));
            }
            (Pending::Fingerprint(answer), Reply::Fingerprint(it)) => drop(answer.send(Ok(it))),
            (Pending::Fingerprint(answer), Reply::Failed(failure)) => {
                drop(answer.send(Err(Error::failure(ErrorKind::Host, failure))));
            }
            // What may hold something of an earlier run is not used again.
            (Pending::Reset(answer), Reply::Failed(failure)) => {
                let reason = format!("a reset failed: {failure}");
                drop(answer.send(Err(Error::failure(ErrorKind::File, failure))));
                return Err(Error::lost(reason));
            }
            (Pending::Reset(answer), Reply::Differs(things)) => {
                let things = things.join(", ");
                let error = Error::new(ErrorKind::File, Step::CompareFingerprint).detail(things.clone());
                drop(answer.send(Err(error)));
                return Err(Error::lost(format!("after a reset these were not as they had been at first: {things}")));
            }
            (_, body) => {
                return Err(Error::lost(format!("the init answered something else: {body:?}")));
            }
        }
        if self.turn == Some(id) {
            self.turn = None;
            self.current = None;
        }
        Ok(())
    }

    /// Shows a run's process to its caller, once it is known to be the init's child and not somebody else's.
    fn forked(&mut self, id: u64, mut fds: Vec<OwnedFd>) -> Result<()> {
        let (Some(pidfd), true, true) = (fds.pop(), fds.is_empty(), self.turn == Some(id)) else {
            return Err(Error::lost("the init named a process that nobody had asked for"));
        };
        self.silent_since = Instant::now();
        // Killed meanwhile: nobody waits for it.
        let Some(current) = &mut self.current else { return Ok(()) };
        let answer = current.forked.take();
        let answer = answer.ok_or_else(|| Error::lost("the init named a process that nobody had asked for"))?;
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

    /// Whether the init should be saying something: a run owes its process at once where somebody waits to see it, and
    /// its report only since its kill.
    fn owes(&self) -> bool {
        let is_patient = self.current.as_ref().is_some_and(|current| current.forked.is_none());
        self.pending.len() > usize::from(is_patient)
    }

    /// Before a new debt: the clock of an older one goes on.
    fn note_debt(&mut self) {
        if !self.owes() {
            self.silent_since = Instant::now();
        }
    }
}

impl Pending {
    fn refuse(self, error: Error) {
        // A caller that has gone does not mind.
        match self {
            Self::Ping(answer) | Self::Deleted(answer) | Self::Reset(answer) => drop(answer.send(Err(error))),
            Self::Fingerprint(answer) => drop(answer.send(Err(error))),
            Self::Opened(_, answer) => drop(answer.send(Err(error))),
            Self::Linked(_, answer) => drop(answer.send(Err(error))),
            Self::Run(answer, ..) => drop(answer.send(Err(error))),
        }
    }
}

/// What else could make the caller wait, or be more than was asked for; and what only names a file has no content.
fn is_regular_file(fd: &OwnedFd) -> bool {
    let is_open = fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() == 0);
    is_open && fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits())
}

/// Each result with its descriptor.
fn with_fds(results: Vec<Option<Failure>>, fds: Vec<OwnedFd>) -> Vec<Result<OwnedFd>> {
    let mut fds = fds.into_iter();
    let result = |failure: Option<Failure>| match failure {
        Some(failure) => Err(Error::failure(ErrorKind::File, failure)),
        None => fds.next().ok_or_else(|| Error::lost("fewer descriptors than results")),
    };
    results.into_iter().map(result).collect()
}

/// Sends what waits, until the socket is full.
fn flush_now(socket: &Async, outbox: &mut VecDeque<Datagram>) -> io::Result<()> {
    while let Some(datagram) = outbox.front() {
        match datagram.send(socket, false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        }
        outbox.pop_front();
    }
    Ok(())
}

/// Sends all that waits. Dropping the future loses nothing.
async fn flush(socket: &Async, outbox: &mut VecDeque<Datagram>) -> io::Result<()> {
    while let Some(datagram) = outbox.front() {
        socket.io(Interest::WRITABLE, |fd| datagram.send(fd, false)).await?;
        outbox.pop_front();
    }
    Ok(())
}

fn destroyed() -> Error {
    Error::new(ErrorKind::Destroyed, Step::Serve)
}

/// Sees the init to its end and removes the group, and adds what the init had said to a reason that is not the caller's own.
async fn bury(init: Init, group: Option<Group>, mut stderr: File, reason: Error) -> Error {
    if let Err(error) = init.end().await {
        return Error::io(ErrorKind::Lost, Step::Wait, error);
    }
    if let Some(group) = group {
        // The last processes may be on their way out. What takes longer is removed in the background.
        for _ in 0..100 {
            match group.remove() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    match last_words(&mut stderr) {
        Some(words) if reason.kind() == ErrorKind::Lost => Error::lost(format!("{reason}; it had said: {words}")),
        _ => reason,
    }
}

/// Records why the container ended, also where the actor is dropped with its runtime or panics.
struct RecordDeath(Arc<Shared>);

impl RecordDeath {
    fn set(&self, reason: Error) {
        // The first reason counts.
        drop(self.0.death.set(reason));
    }

    /// The handles so far are dead, and the next ones are to be told.
    fn hand_over(&mut self, next: Arc<Shared>) {
        self.set(returned());
        self.0 = next;
    }
}

impl Drop for RecordDeath {
    fn drop(&mut self) {
        self.set(Error::lost("its runtime ended, or its task panicked"));
    }
}

#[cfg(any(fuzzing, test))]
#[cfg_attr(test, allow(unreachable_pub))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
