//! A container as its users see it: a cheap handle, and futures.
//!
//! Invariant: a handle holds no state of its own. It sends to the actor and waits. When the actor
//! is gone, it returns the reason that the actor recorded.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::fingerprint::Fingerprint;
use crate::limits::LeaseLimits;
use crate::process::{Output, Process};
use crate::report::Report;
use crate::wire::Request;

use super::actor;
use super::connection::Connection;
use super::death::DeathGuard;
use super::info::ContainerInfo;
use super::mailbox::Mailbox;
use super::message::{Message, Operation, Place};
use super::reply::PendingReply;

/// A pre-forked container: namespaces, a root file system and their init, which lives through many
/// runs.
///
/// A handle is cheap to clone and works from any task. Runs and resets wait for each other, in the
/// order of the calls. File commands and pings are served at once, also while a program runs.
///
/// When the last handle and the last [`Process`] are dropped, the container is destroyed in the
/// background. Once a container is lost or destroyed, every call returns the same [`Error`].
///
/// Call every method within a tokio runtime. The container lives in the runtime that built it, and
/// ends with it.
#[derive(Clone, Debug)]
pub struct Container {
    pub(super) mailbox: Mailbox,
    pub(super) info: ContainerInfo,
    /// What the lease adds to the limits of its runs.
    pub(super) lease: LeaseLimits,
    /// The slot of the pool that the container is in.
    pub(super) slot: Option<usize>,
}

impl Container {
    /// The handle of a container, and the task that serves it. The mailbox holds `capacity`
    /// messages.
    pub(super) fn serve(
        connection: Connection,
        reply_timeout: Duration,
        capacity: usize,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (mailbox, receiver) = Mailbox::new(capacity);
        let death = DeathGuard::new(Arc::clone(mailbox.record()));
        let container = Self { mailbox, info: connection.info.clone(), lease: LeaseLimits::default(), slot: None };
        (container, actor::serve(connection, receiver, death, reply_timeout))
    }

    /// Asks the init for a reply, which it sends at once, also while a program runs.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if there is no reply within `deadline`. The container stays alive
    /// then. It is destroyed only after
    /// [`ContainerBuilder::reply_timeout`](crate::ContainerBuilder::reply_timeout).
    ///
    /// # Cancel safety
    /// Dropping the future forgets the reply, and changes nothing.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.ping(std::time::Duration::from_secs(1)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn ping(&self, deadline: Duration) -> Result<()> {
        let reply = self.mailbox.call(|sender| Message::Request(Request::Ping, PendingReply::Ping(sender)));
        match tokio::time::timeout(deadline, reply).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::Timeout, Step::Ping).detail(format!("nothing within {deadline:?}"))),
        }
    }

    /// Makes all that a run may have changed as good as new, or as set-up commands have left it:
    /// every tmpfs, every overlay, System V objects, and the network of a container with a
    /// [`loopback`](crate::ContainerBuilder::loopback). Then compares the
    /// [`fingerprint`](Self::fingerprint) with the first one.
    ///
    /// Waits for the operations before it; the operations after it wait for it. What the runs left
    /// is freed after the reply, and before anything else is done.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the step that failed, or with `compare_fingerprint` and what
    /// differs. The container is destroyed then, and every later call returns [`ErrorKind::Lost`].
    ///
    /// # Cancel safety
    /// If the future is dropped before its turn, no reset happens. If it is dropped later, the
    /// reset is carried out.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.file("secret").mode(0o600).write("of the first tenant").await?;
    /// container.reset().await?;
    /// assert!(container.read("secret", 100).await.is_err());
    /// # Ok(()) }
    /// ```
    pub async fn reset(&self) -> Result<()> {
        self.mailbox.call(|sender| Message::Queue(Operation::Reset(sender))).await
    }

    /// The state of this container that runs can change, as it is now. Waits for the runs and
    /// resets before it.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] with the step that failed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// let before = container.fingerprint().await?;
    /// container.write("left", "behind").await?;
    /// println!("{:?} differ", before.differences(&container.fingerprint().await?));
    /// # Ok(()) }
    /// ```
    pub async fn fingerprint(&self) -> Result<Fingerprint> {
        self.mailbox.call(|sender| Message::Queue(Operation::Fingerprint(sender))).await
    }

    /// Starts a program, once the runs and resets before it are over, and returns its live streams.
    ///
    /// If the program cannot be executed, [`Process::wait`] returns the error.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a limit that this machine cannot hold.
    /// [`ErrorKind::InvalidInput`] for a NUL byte in a string, a bad number for a descriptor, or
    /// arguments and environment of more than 16 MiB. [`ErrorKind::Host`] if a stream cannot be
    /// opened.
    ///
    /// # Cancel safety
    /// If the future is dropped before its turn, the program never starts. If it is dropped later,
    /// the program is killed.
    ///
    /// ```no_run
    /// # use cellblock::Container;
    /// # async fn example(container: &Container) -> Result<(), Box<dyn std::error::Error>> {
    /// use cellblock::{Command, Stdio};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut command = Command::new("cat");
    /// command.stdin(Stdio::piped()).stdout(Stdio::piped());
    /// let mut process = container.spawn(&command).await?;
    /// // `take` drops the pipe after the write, so the program reads the end of its input.
    /// process.stdin.take().unwrap().write_all(b"hello").await?;
    /// let mut text = String::new();
    /// process.stdout.take().unwrap().read_to_string(&mut text).await?;
    /// assert!(process.wait().await?.status.success());
    /// # Ok(()) }
    /// ```
    pub async fn spawn(&self, command: impl Borrow<Command>) -> Result<Process> {
        self.spawn_in(Place::Queue, command.borrow()).await
    }

    /// Runs a program to its end. An output that is [piped](crate::Stdio::piped) is closed at once.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Process::wait`]. [`ErrorKind::InvalidInput`] for a program
    /// on a [terminal](crate::Stdio::pty): the call has no handle for the other end of it.
    ///
    /// # Cancel safety
    /// If the future is dropped before its turn, the program never starts. If it is dropped later,
    /// the program is killed.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// use cellblock::Command;
    ///
    /// let report = container.run(Command::new("test").args(["-e", "/etc/passwd"])).await?;
    /// println!("{}: {}", report.status, report.verdict());
    /// # Ok(()) }
    /// ```
    pub async fn run(&self, command: impl Borrow<Command>) -> Result<Report> {
        self.run_in(Place::Queue, command.borrow()).await
    }

    /// Runs a program to its end, and collects each output that is piped or that the command does
    /// not set.
    ///
    /// Keeps [`Command::capture_bytes`] of each output. [`Command::overflow`] says what happens to
    /// the rest.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run). The collected output is lost.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// use std::time::Duration;
    ///
    /// use cellblock::{Command, Limits};
    ///
    /// let mut command = Command::new("python3");
    /// command.args(["-c", "print(6 * 7)"]);
    /// command.limits(Limits::new().wall_time(Duration::from_secs(2)));
    /// let output = container.output(&command).await?;
    /// assert_eq!(output.stdout, b"42\n");
    /// # Ok(()) }
    /// ```
    pub async fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.start_output(command.borrow()).await?.await
    }

    /// The first half of [`output`](Self::output). Its second half needs nothing of the command.
    pub(crate) async fn start_output(&self, command: &Command) -> Result<impl Future<Output = Result<Output>> + use<>> {
        self.start_output_in(Place::Queue, command).await
    }

    /// Destroys the container, ahead of all that waits: kills the programs, and returns when the
    /// init is reaped.
    ///
    /// Calls that were going on return [`ErrorKind::Destroyed`]. A container that has ended is no
    /// error.
    ///
    /// # Cancel safety
    /// The destruction begins at the first poll, and is carried out also if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) {
    /// container.destroy().await; // nothing of the container is left on the host
    /// # }
    /// ```
    pub async fn destroy(&self) {
        let record = self.mailbox.record();
        if record.reason().is_none() {
            record.request_end();
        }
        record.wait().await;
    }

    /// The command of the container's [`Root`](crate::Root): what an image runs if its user names
    /// no program. `None` without a root, and for a root that has none, such as
    /// [`Root::directory`](crate::Root::directory).
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// if let Some(command) = container.root_command() {
    ///     container.run(&command).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn root_command(&self) -> Option<Command> {
        let (program, args) = self.info.command.split_first()?;
        let mut command = Command::new(program);
        command.args(args);
        Some(command)
    }

    /// Waits for the container's end, and returns the reason.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// ```no_run
    /// # async fn example(container: cellblock::Container) {
    /// tokio::spawn(async move {
    ///     eprintln!("the container has ended: {}", container.death().await);
    /// });
    /// # }
    /// ```
    pub async fn death(&self) -> Error {
        self.mailbox.record().wait().await
    }

    /// Whether the program's ids on the host differ from its init's.
    pub(crate) fn has_own_ids(&self) -> bool {
        self.info.protections.own_ids
    }
}
