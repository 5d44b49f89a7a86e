//! A running program and its streams.
//!
//! Invariant: a [`Process`] is the only owner of its run. Dropping it kills the run, whatever it was doing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{fchown, pipe2};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::command::{Capture, Command, Overflow, PidHook, Stream};
use crate::container::Container;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Limit;
use crate::pty::Pty;
use crate::report::{Reason, Report};
use crate::sys::{memory, socket};
use crate::wire::Ids;

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

/// How much more a run may write to its pipes, where that is limited.
#[derive(Debug)]
struct Quota {
    left: AtomicU64,
    is_exceeded: AtomicBool,
}

/// Ends a run, once.
#[derive(Clone, Debug)]
pub(crate) struct KillSwitch(Arc<Mutex<Option<oneshot::Sender<Reason>>>>);

impl KillSwitch {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Reason>) {
        let (kill, killed) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(kill)))), killed)
    }

    fn kill(&self, reason: Reason) {
        if let Some(kill) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A run that is over has nobody to be told.
            kill.send(reason).ok();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill.kill(Reason::Request);
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
        self.run.kill.kill(Reason::Request);
    }
}

impl Run {
    pub(crate) fn new(
        container: Container,
        outcome: oneshot::Receiver<Result<Report>>,
        kill: KillSwitch,
        output: Option<u64>,
    ) -> Self {
        let quota = |bytes| Quota { left: AtomicU64::new(bytes), is_exceeded: AtomicBool::new(false) };
        let quota = output.map(|bytes| Arc::new(quota(bytes)));
        Self { outcome: Outcome::Awaited(outcome), kill, quota, container }
    }

    fn metered(&self, pipe: pipe::Receiver) -> OutputPipe {
        let quota = self.quota.as_ref().map(|left| (Arc::clone(left), self.kill.clone()));
        OutputPipe { pipe, quota, is_cut: false }
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
                let is_exceeded = |quota: &Arc<Quota>| quota.is_exceeded.load(Ordering::Relaxed);
                report.evidence.output_exceeded = self.quota.as_ref().map(is_exceeded);
                report
            }),
            Outcome::Awaited(_) => unreachable!("it was awaited above"),
        }
    }
}

/// Reads an output of a program, up to the limit that [`Limits::output`](crate::Limits::output) sets for both together: there
/// the run is killed, and this comes to its end.
#[derive(Debug)]
pub struct OutputPipe {
    pipe: pipe::Receiver,
    quota: Option<(Arc<Quota>, KillSwitch)>,
    is_cut: bool,
}

impl OutputPipe {
    /// Whether the program had written more than was let through.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl AsyncRead for OutputPipe {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { pipe, quota, is_cut } = &mut *self;
        let Some((quota, kill)) = quota else { return Pin::new(pipe).poll_read(context, into) };
        if *is_cut || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // Taken before it is read, and what was not needed is given back: there is another reader.
        let wanted = into.remaining().min(64 << 10);
        let take = |left: u64| Some(left.saturating_sub(wanted as u64));
        let had = quota.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        let taken = wanted.min(usize::try_from(had).unwrap_or(usize::MAX));
        if taken > 0 {
            let mut part = ReadBuf::new(into.initialize_unfilled_to(taken));
            let polled = Pin::new(pipe).poll_read(context, &mut part);
            let read = part.filled().len();
            quota.left.fetch_add((taken - read) as u64, Ordering::Relaxed);
            into.advance(read);
            return polled;
        }
        let mut beyond = [0];
        let mut part = ReadBuf::new(&mut beyond);
        let polled = Pin::new(pipe).poll_read(context, &mut part);
        if !part.filled().is_empty() {
            *is_cut = true;
            quota.is_exceeded.store(true, Ordering::Relaxed);
            kill.kill(Reason::Limit(Limit::Output));
        }
        polled
    }
}

impl AsFd for OutputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// What a program wrote, as far as it was kept: from [`Container::output`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What is known about the run.
    pub report: Report,
    /// The beginning of its standard output or, where it had one, of what its terminal showed.
    pub stdout: Vec<u8>,
    /// Whether it wrote more to standard output than was kept.
    pub stdout_truncated: bool,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
    /// Whether it wrote more to standard error than was kept.
    pub stderr_truncated: bool,
}

impl Output {
    /// Reads both outputs to their ends while the run goes on.
    pub(crate) async fn collect(streams: Streams, mut run: Run, keep: Capture) -> Result<Self> {
        let Streams { stdin, stdout, stderr, pty } = streams;
        drop(stdin);
        let (mut stdout, mut stderr) = (stdout.map(|pipe| run.metered(pipe)), stderr.map(|pipe| run.metered(pipe)));
        let kill = run.kill.clone();
        let overflow = || match keep.overflow {
            Overflow::Discard => {}
            Overflow::Kill => kill.kill(Reason::Limit(Limit::Output)),
        };
        let is_piped = stdout.is_some();
        let (out, err) = (&mut stdout, &mut stderr);
        let (out, err) = (capture(out.as_mut(), keep.bytes, overflow), capture(err.as_mut(), keep.bytes, overflow));
        let shown = capture(pty, keep.bytes, overflow);
        let (out, err, shown, report) = tokio::join!(out, err, shown, run.wait());
        let out = if is_piped { out } else { shown };
        report?;
        // Once more: now it is known what was read.
        let report = run.wait().await?;
        let failure = |error| Error::io(ErrorKind::Host, Step::Read, error);
        let (out, out_has_more) = out.map_err(failure)?;
        let (err, err_has_more) = err.map_err(failure)?;
        let is_cut = |pipe: Option<OutputPipe>| pipe.is_some_and(|pipe| pipe.is_cut());
        Ok(Self {
            report,
            stdout: out,
            stdout_truncated: out_has_more || is_cut(stdout),
            stderr: err,
            stderr_truncated: err_has_more || is_cut(stderr),
        })
    }
}

/// The first `keep` bytes, and whether there were more, which is told as soon as it is known. Reads to the end in any case.
async fn capture(
    stream: Option<impl AsyncRead + Unpin>,
    keep: usize,
    overflow: impl FnOnce(),
) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return Ok((kept, false));
    };
    (&mut stream).take(keep as u64).read_to_end(&mut kept).await?;
    if kept.len() < keep {
        return Ok((kept, false));
    }
    if stream.read(&mut [0]).await? == 0 {
        return Ok((kept, false));
    }
    overflow();
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok((kept, true))
}

/// The host's ends of a run's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    pty: Option<Pty>,
}

impl Streams {
    pub(crate) fn has_terminal(&self) -> bool {
        self.pty.is_some()
    }
}

/// The program's ends, with the numbers that they get.
type ProgramFds = Vec<(i32, Arc<OwnedFd>)>;

/// A command's streams, ready for a run.
pub(crate) struct Opened {
    pub(crate) streams: Streams,
    pub(crate) fds: ProgramFds,
    /// Whether the program can write to an output that is not one of these streams.
    pub(crate) outputs_elsewhere: bool,
}

/// Opens what a command's streams need. `unset` is what an output is that the command says nothing about; what is made here
/// belongs to `program`.
pub(crate) fn open_streams(command: &Command, unset: &Stream, program: Option<Ids>) -> Result<Opened> {
    let failure = |error| Error::io(ErrorKind::Host, Step::MakeStream, error);
    let mut streams = Streams::default();
    let mut fds = command.fds.clone();
    let (mut terminal, mut outputs_elsewhere) = (None, false);
    for (number, stream) in command.streams.iter().enumerate() {
        let default = if number == 0 { &Stream::Null } else { unset };
        let stream = stream.as_ref().map_or(default, |stdio| &stdio.0);
        outputs_elsewhere |= number > 0 && matches!(stream, Stream::Fd(_) | Stream::Inherit | Stream::Pty);
        let fd = match stream {
            Stream::Null => continue,
            Stream::Fd(fd) => Arc::clone(fd),
            Stream::AsStdout if number == 2 => match fds.iter().find(|(number, _)| *number == 1) {
                Some((_, stdout)) => Arc::clone(stdout),
                None => continue,
            },
            Stream::AsStdout => return Err(Error::invalid("only a standard error can go where the output goes")),
            Stream::Inherit => inherited(number).map_err(failure)?.into(),
            Stream::Bytes(bytes) if number == 0 => memory::sealed("cellblock-stdin", bytes).map_err(failure)?.into(),
            Stream::Bytes(_) => return Err(Error::invalid("bytes can only be an input")),
            Stream::Piped => piped(number, program, &mut streams).map_err(failure)?.into(),
            Stream::Pty => match &terminal {
                Some(terminal) => Arc::clone(terminal),
                None => {
                    let (host, inside) = Pty::open(command.window).map_err(failure)?;
                    give(&inside, program).map_err(failure)?;
                    streams.pty = Some(host);
                    Arc::clone(terminal.insert(Arc::new(inside)))
                }
            },
        };
        fds.push((number as i32, fd));
    }
    fds.iter().try_for_each(|(_, fd)| leads_nowhere(fd))?;
    Ok(Opened { streams, fds, outputs_elsewhere })
}

/// Refuses what a program could walk the host's files from, or look again at what it only names.
fn leads_nowhere(fd: &OwnedFd) -> Result<()> {
    let failure = |error: io::Error| Error::io(ErrorKind::Host, Step::MakeStream, error);
    let flags = fcntl_getfl(fd).map_err(|error| failure(error.into()))?;
    let mode = fstat(fd).map_err(|error| failure(error.into()))?.st_mode;
    if flags.contains(OFlags::PATH) || FileType::from_raw_mode(mode) == FileType::Directory {
        return Err(Error::invalid("a directory or an O_PATH descriptor would lead a program to the host's files"));
    }
    Ok(())
}

fn inherited(number: usize) -> io::Result<OwnedFd> {
    match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

/// Makes a program's stream belong to it, or it could not open that by name.
fn give(stream: &OwnedFd, owner: Option<Ids>) -> io::Result<()> {
    match owner {
        Some(Ids { uid, gid }) => Ok(fchown(stream, Some(uid.into()), Some(gid.into()))?),
        None => Ok(()),
    }
}

/// Makes a pipe, keeps the host's end in `streams` and returns the program's, which blocks as programs expect.
fn piped(number: usize, owner: Option<Ids>, streams: &mut Streams) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (program, host) = if number == 0 { (reader, writer) } else { (writer, reader) };
    give(&program, owner)?;
    let host = File::from(host);
    match number {
        0 => streams.stdin = Some(pipe::Sender::from_file(host)?),
        1 => streams.stdout = Some(pipe::Receiver::from_file(host)?),
        _ => streams.stderr = Some(pipe::Receiver::from_file(host)?),
    }
    Ok(program)
}

/// A pipe between two programs, its reading end first. Each of them may open it by name.
pub(crate) fn pipe_of_two() -> Result<(OwnedFd, OwnedFd)> {
    let make = || {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        // One inode, which can belong to only one of them.
        fchmod(&writer, Mode::from_bits_truncate(0o666))?;
        Ok((reader, writer))
    };
    make().map_err(|error: nix::Error| Error::io(ErrorKind::Host, Step::MakeStream, error))
}
