//! A container as its users see it: a cheap handle, and futures.
//!
//! Invariant: a handle holds no state of its own. It sends to the actor and waits; when the actor is gone it gives the
//! reason that the actor recorded.

pub(crate) mod actor;
mod builder;
mod files;
mod ids;
pub(crate) mod launch;
mod lease;
mod open_file;
mod processes;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{SetOnce, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::command::{Command, Stream};
use crate::doctor;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::{HostSupport, LeaseLimits};
use crate::process::{KillSwitch, Opened, Output, Process, Run, open_streams};
use crate::report::{Protections, Report};
use crate::sys::socket;
use crate::wire::{FdRole, Ids, Request};

pub use crate::fingerprint::{FileSystem, Fingerprint};
use actor::{Answer, Envelope, Message, PendingReply, Progress, QueuedRun, Turn};
pub use builder::ContainerBuilder;
pub(crate) use ids::DEFAULT_RANGE as DEFAULT_IDS;
pub use open_file::OpenFile;

/// A pre-forked container: namespaces, a root file system and their init, which lives through many runs.
///
/// A handle is cheap to clone and works from any task. Runs and resets wait for each other, in the order they were asked
/// for; file commands and pings are served at once, also while a program runs.
///
/// When the last handle (and the last [`Process`]) is dropped the container is destroyed in the background. A container
/// that was lost, or destroyed, gives every call the same [`Error`] from then on.
///
/// Every method must be called within a tokio runtime; the container lives in the runtime that built it and ends with it.
#[derive(Clone, Debug)]
pub struct Container {
    mailbox: mpsc::Sender<Envelope>,
    shared: Arc<Shared>,
    made: ContainerInfo,
    terms: LeaseLimits,
}

/// What a container turned out to be.
#[derive(Clone, Copy, Debug)]
struct ContainerInfo {
    /// Who a program is on the host, if not this process's user.
    program: Option<Ids>,
    grants: HostSupport,
    protections: Protections,
}

/// What the handles and the actor share: for the container's whole life or, in a pool, for one lease.
#[derive(Debug, Default)]
struct Shared {
    /// Asks the actor to end, ahead of whatever waits in its mailbox.
    end: CancellationToken,
    /// Why these handles are dead. Set once, when the init is reaped or the lease is over.
    death: SetOnce<Error>,
}

impl Container {
    /// What a container is made of, to be [built](ContainerBuilder::build).
    pub fn builder() -> ContainerBuilder {
        ContainerBuilder::default()
    }

    /// Asks the init for an answer, which it gives at once, also while a program runs.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] where none has come after `deadline`. The container is not given up for that; what is
    /// owed an answer for longer than [`ContainerBuilder::reply_timeout`] is.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the answer, and changes nothing.
    pub async fn ping(&self, deadline: Duration) -> Result<()> {
        let answer = self.ask(|answer| Message::Ask(Request::Ping, PendingReply::Ping(answer)));
        let late = |_| Err(Error::new(ErrorKind::Timeout, Step::Ping).detail(format!("nothing within {deadline:?}")));
        tokio::time::timeout(deadline, answer).await.unwrap_or_else(late)
    }

    /// Makes everything of the container as good as new that a run may have changed: every tmpfs, every overlay, System V
    /// objects, and the network where there is a [`loopback`](crate::ContainerBuilder::loopback). Then its [`fingerprint`](Self::fingerprint) is compared with the first. Waits for the runs
    /// before it; the runs after it wait for it.
    ///
    /// What runs left is freed after the answer, and before anything else is done.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the step that failed, or [`Step::CompareFingerprint`] with what differs. The container is
    /// destroyed then, and every later call gives [`ErrorKind::Lost`].
    ///
    /// # Cancel safety
    /// Dropped before its turn it never happens; dropped later it is carried out all the same.
    pub async fn reset(&self) -> Result<()> {
        self.ask(|answer| Message::Queue(Turn::Reset(answer))).await
    }

    /// What a run could change about this container, as it is now. Waits for the runs and resets before it.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] with the step that failed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn fingerprint(&self) -> Result<Fingerprint> {
        self.ask(|answer| Message::Queue(Turn::Fingerprint(answer))).await
    }

    /// Starts a program, once the runs and resets before it are over, and gives its live streams.
    ///
    /// That the program could not be executed is told by [`Process::wait`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a limit that this machine cannot hold; [`ErrorKind::InvalidInput`] for a NUL byte in a string, a bad number for a descriptor, or arguments and environment
    /// of more than 16 MiB; [`ErrorKind::Host`] where a stream cannot be opened.
    ///
    /// # Cancel safety
    /// Dropped before its turn the program never starts; dropped later it is killed.
    pub async fn spawn(&self, command: &Command) -> Result<Process> {
        let mut opened = open_streams(command, &Stream::Null, self.made.program)?;
        if command.hook.is_some() {
            let run = self.start(command, &mut opened).await?;
            return Ok(Process::new(opened.streams, run));
        }
        let (turn, started) = oneshot::channel();
        let mut run = self.enqueue(command, &mut opened, None, Progress::Turn(turn)).await?;
        if started.await.is_err() {
            // Refused, or the container ended: the outcome has the reason.
            run.wait().await?;
        }
        Ok(Process::new(opened.streams, run))
    }

    /// Runs a program to its end. An output that is [piped](crate::Stdio::piped) is closed at once.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Process::wait`]; [`ErrorKind::InvalidInput`] for a program on a
    /// [terminal](crate::Stdio::pty), where nobody would be.
    ///
    /// # Cancel safety
    /// Dropped before its turn the program never starts; dropped later it is killed.
    pub async fn run(&self, command: &Command) -> Result<Report> {
        let mut opened = open_streams(command, &Stream::Null, self.made.program)?;
        if opened.streams.has_terminal() {
            return Err(Error::invalid("nobody would be at the program's terminal: spawn it, or collect its output"));
        }
        drop(std::mem::take(&mut opened.streams));
        self.start(command, &mut opened).await?.wait().await
    }

    /// Runs a program to its end, and collects the outputs that the command says nothing about, or says are piped.
    ///
    /// Keeps [`Command::capture_bytes`] of each; [`Command::overflow`] tells what becomes of the rest.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run); what was collected is lost.
    pub async fn output(&self, command: &Command) -> Result<Output> {
        self.start_output(command).await?.await
    }

    /// The first half of [`output`](Self::output): nothing of the command is needed after it.
    pub(crate) async fn start_output(&self, command: &Command) -> Result<impl Future<Output = Result<Output>> + use<>> {
        let mut opened = open_streams(command, &Stream::Piped, self.made.program)?;
        let run = self.start(command, &mut opened).await?;
        Ok(Output::collect(opened.streams, run, command.capture))
    }

    /// Destroys the container, ahead of everything that waits: kills what runs, and returns when the init is reaped.
    ///
    /// What was going on is answered with [`ErrorKind::Destroyed`]. A container that is gone already is no error.
    ///
    /// # Cancel safety
    /// The destruction begins at the first poll and is carried out whether or not the future is dropped.
    pub async fn destroy(&self) {
        if !self.is_dead() {
            self.shared.end.cancel();
        }
        self.shared.death.wait().await;
    }

    /// Waits for the container's end, and tells why.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn death(&self) -> Error {
        self.shared.death.wait().await.clone()
    }

    /// Whether the program's ids on the host are not its init's.
    pub(crate) fn has_own_ids(&self) -> bool {
        self.made.protections.own_ids
    }

    /// Hands a command over and, where it has a hook, sees its process past that.
    async fn start(&self, command: &Command, opened: &mut Opened) -> Result<Run> {
        let Some(hook) = &command.hook else {
            return self.enqueue(command, opened, None, Progress::Nothing).await;
        };
        let (inside, gate) = socket::pair().map_err(|error| Error::io(ErrorKind::Host, Step::PidHook, error))?;
        let (answer, forked) = oneshot::channel();
        let mut run = self.enqueue(command, opened, Some(inside), Progress::Forked(answer)).await?;
        run.pass(hook, forked, gate).await?;
        Ok(run)
    }

    async fn enqueue(
        &self,
        command: &Command,
        opened: &mut Opened,
        gate: Option<OwnedFd>,
        progress: Progress,
    ) -> Result<Run> {
        let plan = self.terms.plan(&command.limits, &self.made.grants, opened.outputs_elsewhere);
        let plan = plan.map_err(|error| {
            let is_lack = error.kind() == ErrorKind::Unsupported && self.made.grants.groups.is_none();
            if is_lack { error.hinted(doctor::hint(Step::HoldLimit, None)) } else { error }
        })?;
        let program_fds = std::mem::take(&mut opened.fds).into_iter();
        let (roles, fds) = program_fds
            .map(|(number, fd)| (FdRole::Program(number), fd))
            .chain(command.executable().map(|fd| (FdRole::Executable, Arc::clone(fd))))
            .chain(gate.map(|fd| (FdRole::Gate, Arc::new(fd))))
            .unzip();
        let announce = matches!(progress, Progress::Forked(_));
        let (execve, output) = (command.to_start_run(roles, announce, &plan)?, plan.output);
        let (outcome, report) = oneshot::channel();
        let (kill, killed) = KillSwitch::new();
        let run =
            QueuedRun { execve, fds, group: plan.group, held: plan.held, progress, outcome, patience: None, killed };
        self.tell(Message::Queue(Turn::Run(run))).await?;
        Ok(Run::new(self.clone(), report, kill, output))
    }

    async fn ask<T>(&self, message: impl FnOnce(Answer<T>) -> Message) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.tell(message(answer)).await?;
        self.answer(answered).await
    }

    async fn tell(&self, message: Message) -> Result<()> {
        if let Some(reason) = self.shared.death.get() {
            return Err(reason.clone());
        }
        self.post(message).await
    }

    /// Sends to the actor, which looks at nothing from a handle whose lease is over.
    async fn post(&self, message: Message) -> Result<()> {
        match self.mailbox.send(Envelope { from: Arc::clone(&self.shared), message }).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.death().await),
        }
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.death().await),
        }
    }
}

#[cfg(any(fuzzing, test))]
impl ContainerInfo {
    fn for_tests() -> Self {
        let grants = HostSupport {
            groups: None,
            counted: crate::limits::NprocScope::User,
            cpus: 1,
            hard_stack: u64::MAX,
            hard_open_files: u64::MAX,
        };
        Self { program: None, grants, protections: Protections::new(crate::seccomp::Filter::Off, false, false) }
    }
}
