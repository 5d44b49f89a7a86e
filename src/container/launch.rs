//! From a builder to a serving init.
//!
//! Invariant: whatever has been started is killed and reaped when its value here is dropped, at every point of a build
//! and whoever drops it.

mod configuration;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::Interest;

use crate::cgroup::{Hierarchy, RunGroup};
use crate::doctor::hints;
use crate::error::{Error, ErrorKind, Failure, Result, Step, printable};
use crate::limits::{CgroupSupport, HostSupport, NprocScope};
use crate::report::Protections;
use crate::sys::process::Pidfd;
use crate::sys::reactor::Async;
use crate::sys::{clone, kernel, landlock, memory, socket};
use crate::wire::{self, Broken, Decoder, Frame, INIT_ARGUMENT, Ids, Peer, Reply, Request};

use super::ContainerInfo;
use super::builder::ContainerBuilder;
use super::ids::Mapping;
use super::processes::{Init, StageOne};

use configuration::configuration;

/// An init that serves.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) socket: Async,
    pub(super) decoder: Decoder,
    pub(super) init: Init,
    /// What the init says on standard error.
    pub(super) stderr: File,
    /// Where its runs are to be, if this process may make groups.
    pub(super) group: Option<RunGroup>,
    pub(super) made: ContainerInfo,
}

#[cfg(any(fuzzing, test))]
impl Launched {
    /// The host's side of a container whose socket somebody else answers, and whose init's process only sleeps.
    pub(super) fn without_an_init(socket: OwnedFd) -> io::Result<Self> {
        let null = File::open("/dev/null")?;
        let sleep = memory::executable(Path::new("/bin/sleep"))?;
        let stdio = [null.as_fd(); 3];
        let clone::Spawned { pidfd, .. } = clone::spawn(sleep.as_fd(), &[c"sleep", c"600"], stdio, None)?;
        let socket = Async::new(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            socket,
            decoder: Decoder::new(Peer::Init),
            init: Init::new(pidfd),
            stderr: null,
            group: None,
            made: ContainerInfo::for_tests(),
        })
    }
}

/// Starts an init and has it make its root file system.
pub(super) async fn launch(builder: &ContainerBuilder) -> Result<Launched> {
    let mut starting = Starting::new(builder)?;
    match tokio::time::timeout(builder.start_timeout, starting.lead(builder)).await {
        Ok(led) => {
            let (init, Identity { program, is_own }) = led?;
            let Starting { socket, decoder, stderr, group, .. } = starting;
            let (group, groups) = group.unzip();
            let protections = Protections::new(builder.filter, is_own, landlock::is_supported());
            let made = ContainerInfo { program, grants: grants(groups, is_own), protections };
            Ok(Launched { socket, decoder, init, stderr, group, made })
        }
        Err(_) => Err(starting.silent(builder)),
    }
}

/// Who a program is on the host.
struct Identity {
    /// Where files can be given to it.
    program: Option<Ids>,
    /// Whether it is nobody else, and not its init.
    is_own: bool,
}

/// A container between its first stage's start and its first answer.
struct Starting {
    stage_one: StageOne,
    socket: Async,
    decoder: Decoder,
    stderr: File,
    group: Option<(RunGroup, CgroupSupport)>,
    /// What is waited for, for the message where nothing comes.
    awaited: Step,
}

impl Starting {
    fn new(builder: &ContainerBuilder) -> Result<Self> {
        let image = init_image(&builder.init_exe)
            .map_err(|error| Error::io(ErrorKind::Build, Step::ReadInitExecutable, error).at(&builder.init_exe))?;
        let hierarchy = Hierarchy::find().map_err(|error| Error::io(kind(&error), Step::MakeGroup, error))?;
        let grants = hierarchy.as_ref().map(|hierarchy| hierarchy.support());
        let group = hierarchy.map(RunGroup::new).transpose();
        let group = group.map_err(|failure| Error::failure(ErrorKind::Host, failure))?.zip(grants);
        let start = || -> io::Result<_> {
            let (host, init) = socket::pair()?;
            let for_stage_one = host.try_clone()?;
            let socket = Async::new(host, Interest::READABLE | Interest::WRITABLE)?;
            let (stderr, init_stderr) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
            let null = File::open("/dev/null")?;
            let name = CString::new(INIT_ARGUMENT)?;
            let clone::Spawned { pid, pidfd } = clone::spawn(
                image.as_fd(),
                &[c"cellblock-init", &name],
                [init.as_fd(), null.as_fd(), init_stderr.as_fd()],
                group.as_ref().and_then(|(group, _)| group.init_directory()),
            )?;
            Ok((StageOne::new(pid, pidfd, for_stage_one), socket, File::from(stderr)))
        };
        let (stage_one, socket, stderr) = start().map_err(|error| Error::io(kind(&error), Step::StartInit, error))?;
        Ok(Self { stage_one, socket, decoder: Decoder::new(Peer::Init), stderr, group, awaited: Step::Hello })
    }

    /// Leads the init through its states, and reaps stage one, which ends by itself once it has made pid 1.
    async fn lead(&mut self, builder: &ContainerBuilder) -> Result<(Init, Identity)> {
        let configured = self.configure(builder).await?;
        self.awaited = Step::StartInit;
        self.stage_one.ended().await.map_err(|error| Error::io(kind(&error), Step::StartInit, error))?;
        Ok(configured)
    }

    /// Up to the init's answer to the configuration.
    async fn configure(&mut self, builder: &ContainerBuilder) -> Result<(Init, Identity)> {
        // While stage one is busy with its namespaces.
        let mapping = Mapping::choose(builder.id_range.as_ref())
            .map_err(|error| Error::io(ErrorKind::Host, Step::ReserveIds, error))?;
        let clones_into_group = self.group.as_ref().is_some_and(|(group, _)| group.init_directory().is_some());
        if let (Some((group, _)), Some(init)) = (&mut self.group, mapping.init_on_host()) {
            group.delegate_to(init).map_err(|failure| Error::failure(ErrorKind::Host, failure))?;
        }
        let (configure, mut fds) = configuration(builder, &mapping, clones_into_group)?;
        match self.expect(Step::Hello).await?.body {
            Reply::Hello(wire::VERSION) => self.awaited = Step::ForkPid1,
            Reply::Hello(version) => {
                let detail = format!("it speaks version {version}, this library {}", wire::VERSION);
                return Err(Error::new(ErrorKind::Build, Step::Hello).detail(detail).at(&builder.init_exe));
            }
            other => return Err(unexpected(&other)),
        }
        if let Err(error) = mapping.write(self.stage_one.pid()) {
            let hint = hints::hint(Step::MapIds, error.raw_os_error());
            return Err(self.explained(Error::io(kind(&error), Step::MapIds, error).hinted(hint)).await);
        }
        let identity = Identity { program: mapping.program_on_host(), is_own: mapping.is_own() };
        self.send(&Request::Start { cgroup_namespace: !clones_into_group }, Vec::new()).await?;
        // Sent ahead: pid 1 reads it as soon as it is there.
        fds.extend(mapping.into_reservation().map(Arc::new));
        self.send(&Request::Configure(configure), fds).await?;

        let init = self.pid_1().await;
        let started = self.expect(Step::ForkPid1).await?.body;
        let (Reply::Started, Some(init)) = (&started, init) else {
            return Err(unexpected(&started));
        };
        match self.expect(Step::Serve).await?.body {
            Reply::Done => Ok((init, identity)),
            other => Err(unexpected(&other)),
        }
    }

    /// The process that the next message names, before that is received: if it came when there is no room for a descriptor
    /// the process would be nobody's.
    async fn pid_1(&self) -> Option<Init> {
        loop {
            match self.socket.io(Interest::READABLE, |fd| socket::peek_fds(fd, false)).await {
                Ok(mut fds) => return fds.pop().map(|pidfd| Init::new(Pidfd::new(pidfd))),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // Receiving it will tell.
                Err(_) => return None,
            }
        }
    }

    async fn send(&mut self, request: &Request, fds: Vec<Arc<OwnedFd>>) -> Result<()> {
        let failure = |error: io::Error| Error::io(kind(&error), Step::Send, error);
        for datagram in wire::encode(0, request, fds).map_err(failure)? {
            match self.socket.io(Interest::WRITABLE, |fd| datagram.send(fd, false)).await {
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    return Err(self.explained(failure(error)).await);
                }
                sent => sent.map_err(failure)?,
            }
        }
        Ok(())
    }

    /// What the init said last, where it has ended or is about to: `error` then only follows from that.
    async fn explained(&mut self, error: Error) -> Error {
        match tokio::time::timeout(Duration::from_millis(100), self.expect(self.awaited)).await {
            Ok(Err(reason)) => reason,
            Ok(Ok(_)) | Err(_) => error,
        }
    }

    /// The next reply, unless it is a failure.
    async fn expect(&mut self, step: Step) -> Result<Frame<Reply>> {
        self.awaited = step;
        match receive(&self.socket, &mut self.decoder, true).await {
            Ok(Some(Frame { body: Reply::Failed(failure), .. })) => Err(refused(failure)),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(self.closed(step)),
            Err(broken) => Err(Error::new(ErrorKind::Build, Step::Receive).detail(broken.to_string())),
        }
    }

    fn closed(&mut self, step: Step) -> Error {
        let error = Error::new(ErrorKind::Build, step).detail(match stderr_tail(&mut self.stderr) {
            Some(words) => format!("the init ended, having said: {words}"),
            None => "the init ended without a word".to_owned(),
        });
        error.hinted(self.hint())
    }

    fn silent(&self, builder: &ContainerBuilder) -> Error {
        let detail = format!("nothing within {:?}", builder.start_timeout);
        Error::new(ErrorKind::Build, self.awaited).detail(detail).hinted(self.hint())
    }

    fn hint(&self) -> Option<String> {
        hints::hint_of_silence(self.awaited != Step::Hello)
    }
}

/// The next message from an init. `more` says whether another may be there beside it. Dropping the future loses nothing.
pub(super) async fn receive(socket: &Async, decoder: &mut Decoder, more: bool) -> Result<Option<Frame<Reply>>, Broken> {
    let attempt = |fd: BorrowedFd<'_>| match decoder.receive(fd, false) {
        Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        // So the kernel says where the other end has closed and not read everything.
        Err(Broken::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Ok(None)),
        other => Ok(other),
    };
    socket.read(more, attempt).await?
}

/// The end of what an init has said on stderr. Whatever it says is shown without control characters.
pub(super) fn stderr_tail(stderr: &mut File) -> Option<String> {
    const KEPT: usize = 2000;
    let mut said = Vec::new();
    // The pipe does not block, and holds 64 KiB at most.
    match stderr.take(64 << 10).read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Some(format!("({error})")),
    }
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(KEPT)..]).into_owned();
    let said: String = said.trim().chars().map(printable).collect();
    (!said.is_empty()).then_some(said)
}

/// The sealed copy of an executable, made once for the whole process.
fn init_image(path: &Path) -> io::Result<Arc<OwnedFd>> {
    static IMAGES: Mutex<Option<HashMap<PathBuf, Arc<OwnedFd>>>> = Mutex::new(None);
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let images = images.get_or_insert_default();
    if let Some(image) = images.get(path) {
        return Ok(Arc::clone(image));
    }
    let image = Arc::new(memory::executable(path)?);
    images.insert(path.to_owned(), Arc::clone(&image));
    Ok(image)
}

/// What this machine can hold for a container's runs.
fn grants(groups: Option<CgroupSupport>, own_ids: bool) -> HostSupport {
    let hard = |resource| nix::sys::resource::getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
    HostSupport {
        groups,
        nproc_scope: nproc_scope(own_ids),
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        hard_stack: hard(nix::sys::resource::Resource::RLIMIT_STACK),
        hard_open_files: hard(nix::sys::resource::Resource::RLIMIT_NOFILE),
    }
}

/// Since Linux 5.14 the kernel counts the processes of a user in each user namespace.
fn nproc_scope(own_ids: bool) -> NprocScope {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match kernel::version(&release) {
        _ if own_ids => NprocScope::Run,
        _ if nix::unistd::geteuid().is_root() => NprocScope::Unlimited,
        Some(version) if version >= (5, 14) => NprocScope::WithInit,
        _ => NprocScope::User,
    }
}

fn kind(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS) => ErrorKind::Host,
        _ => ErrorKind::Build,
    }
}

fn refused(failure: Failure) -> Error {
    let hint = hints::hint(failure.step, Some(failure.errno));
    Error::failure(ErrorKind::Build, failure).hinted(hint)
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::Build, Step::Receive).detail(format!("a reply out of place: {reply:?}"))
}

#[cfg(any(fuzzing, test))]
#[cfg_attr(test, allow(unreachable_pub))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod seeds;
