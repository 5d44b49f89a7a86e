//! From a specification to an init that serves.
//!
//! Invariant: every process that a launch starts is killed and reaped when its value here is
//! dropped, at every point of the launch.

mod configure;
mod error;

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::task::spawn_blocking;

use crate::cgroup::{Hierarchy, RunGroup};
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use crate::limits::{CgroupSupport, HostSupport, NprocScope};
use crate::report::Protections;
use crate::root::ResolvedRoot;
use crate::sys::process::Pidfd;
use crate::sys::reactor::Async;
use crate::sys::{clone, in_background, kernel, landlock, memory, socket};
use crate::wire::{self, ConfigureFd, Decoder, Frame, INIT_ARGUMENT, Ids, Peer, Reply, Request};

use super::connection::{Connection, receive, stderr_tail};
use super::ids::Mapping;
use super::info::ContainerInfo;
use super::processes::{Pid1, StageOne};
use super::spec::ContainerSpec;

pub(super) use configure::configuration;
pub(super) use error::LaunchError;
use error::host_error;

/// Starts an init and has it make its root file system.
pub(super) async fn launch(spec: &ContainerSpec, root: Option<ResolvedRoot>) -> Result<Connection, LaunchError> {
    let mut launch = Launch::start(spec).await?;
    match tokio::time::timeout(spec.start_timeout, launch.bring_up(spec, root.as_ref())).await {
        Ok(result) => {
            let (pid1, program) = result?;
            let command = root.map_or_else(Arc::default, |root| root.command.into());
            Ok(launch.into_connection(spec, command, pid1, program))
        }
        Err(_) => Err(LaunchError::timed_out(launch.step, spec.start_timeout)),
    }
}

/// A container between the start of its first stage and its first reply as pid 1.
struct Launch {
    stage_one: StageOne,
    socket: Async,
    decoder: Decoder,
    stderr: File,
    group: LaunchGroup,
    /// The step that the host waits for.
    step: Step,
}

/// The control group of the runs, if this process may make groups, until the container is built.
/// Dropped before that, it is removed on another thread.
struct LaunchGroup(Option<(RunGroup, CgroupSupport)>);

/// The ids of the programs.
struct ProgramIds {
    /// The ids on the host, if this process may give files to them.
    on_host: Option<Ids>,
    /// Whether they differ from the init's.
    are_own: bool,
}

impl Launch {
    /// Starts the init's first stage.
    async fn start(spec: &ContainerSpec) -> Result<Self> {
        let image = init_image(&spec.init_exe).fail_at(ErrorKind::Build, Step::ReadInitExecutable, &spec.init_exe)?;
        // The kernel may make a group only after others are done with theirs.
        let group = spawn_blocking(|| make_group().map(LaunchGroup)).await.fail(ErrorKind::Host, Step::MakeGroup)??;
        let (stage_one, socket, stderr) =
            start_stage_one(&image, group.init_directory()).map_err(host_error(Step::StartInit))?;
        Ok(Self { stage_one, socket, decoder: Decoder::new(Peer::Init), stderr, group, step: Step::Hello })
    }

    /// Takes the init through its states, and reaps stage one, which exits once it has made pid 1.
    async fn bring_up(
        &mut self,
        spec: &ContainerSpec,
        root: Option<&ResolvedRoot>,
    ) -> Result<(Pid1, ProgramIds), LaunchError> {
        // Stage one makes its namespaces meanwhile.
        let inside = root.and_then(|root| root.program);
        let mapping = Mapping::choose(spec.id_range.as_ref(), inside).fail(ErrorKind::Host, Step::ReserveIds)?;
        let clones_into_group = self.group.init_directory().is_some();
        if let (LaunchGroup(Some((group, _))), Some(init)) = (&mut self.group, mapping.init_on_host()) {
            group.delegate_to(init).map_err(|failure| Error::failure(ErrorKind::Host, failure))?;
        }
        let (mut configure, mut fds) = configuration(spec, root, &mapping, clones_into_group)?;

        self.expect_hello(&spec.init_exe).await?;
        self.map_ids(&mapping).await?;
        let program = ProgramIds { on_host: mapping.program_on_host(), are_own: mapping.is_own() };
        self.send(&Request::Start { cgroup_namespace: !clones_into_group }, Vec::new()).await?;
        // Sent ahead: pid 1 reads it as soon as it exists.
        for reservation in mapping.into_reservation() {
            configure.fds.push(ConfigureFd::IdReservation);
            fds.push(Arc::new(reservation));
        }
        if let Some(guard) = root.and_then(|root| root.guard.clone()) {
            configure.fds.push(ConfigureFd::ImageInUse);
            fds.push(guard);
        }
        self.send(&Request::Configure(configure), fds).await?;

        let pid1 = self.expect_pid1().await?;
        match self.expect_reply(Step::Serve).await?.body {
            Reply::Done => {}
            other => return Err(out_of_place(&other).into()),
        }
        self.step = Step::StartInit;
        self.stage_one.reap().await.map_err(host_error(Step::StartInit))?;
        Ok((pid1, program))
    }

    fn into_connection(
        self,
        spec: &ContainerSpec,
        command: Arc<[OsString]>,
        pid1: Pid1,
        program: ProgramIds,
    ) -> Connection {
        let Self { socket, decoder, stderr, mut group, .. } = self;
        let (group, groups) = group.0.take().unzip();
        let info = ContainerInfo {
            command,
            program: program.on_host,
            support: host_support(groups, program.are_own),
            protections: Protections::new(spec.filter, program.are_own, landlock::is_supported()),
        };
        Connection { socket, decoder, pid1, stderr, group, info }
    }

    async fn expect_hello(&mut self, init_exe: &Path) -> Result<(), LaunchError> {
        match self.expect_reply(Step::Hello).await?.body {
            Reply::Hello(wire::VERSION) => {
                self.step = Step::ForkPid1;
                Ok(())
            }
            Reply::Hello(version) => {
                let detail = format!("it speaks version {version}, this library {}", wire::VERSION);
                Err(Error::new(ErrorKind::Build, Step::Hello).detail(detail).at(init_exe).into())
            }
            other => Err(out_of_place(&other).into()),
        }
    }

    /// Writes the id maps of stage one.
    async fn map_ids(&mut self, mapping: &Mapping) -> Result<(), LaunchError> {
        match mapping.write(self.stage_one.pid()) {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = LaunchError::Refused(host_error(Step::MapIds)(error));
                Err(self.init_error_or(error).await)
            }
        }
    }

    /// Receives pid 1 and its first message.
    async fn expect_pid1(&mut self) -> Result<Pid1, LaunchError> {
        let pid1 = self.peek_pid1().await;
        let started = self.expect_reply(Step::ForkPid1).await?.body;
        match (&started, pid1) {
            (Reply::Started, Some(pid1)) => Ok(pid1),
            _ => Err(out_of_place(&started).into()),
        }
    }

    /// Copies the pidfd in the next message before that is received. Receiving a message without
    /// room for a descriptor would lose the pidfd, and leave the process without an owner.
    async fn peek_pid1(&self) -> Option<Pid1> {
        loop {
            match self.socket.io(Interest::READABLE, |fd| socket::peek_fds(fd, false)).await {
                Ok(mut fds) => return fds.pop().map(|pidfd| Pid1::new(Pidfd::new(pidfd))),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // The message cannot be received either, and that gives the reason.
                Err(_) => return None,
            }
        }
    }

    async fn send(&mut self, request: &Request, fds: Vec<Arc<OwnedFd>>) -> Result<(), LaunchError> {
        let failure = |error: io::Error| LaunchError::Host(host_error(Step::Send)(error));
        for datagram in wire::encode(0, request, fds).map_err(failure)? {
            match self.socket.io(Interest::WRITABLE, |fd| datagram.send(fd, false)).await {
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    return Err(self.init_error_or(failure(error)).await);
                }
                sent => sent.map_err(failure)?,
            }
        }
        Ok(())
    }

    /// The failure that the init names within 100 ms. If it names none, `error`: otherwise `error`
    /// only follows from the init's failure.
    async fn init_error_or(&mut self, error: LaunchError) -> LaunchError {
        match tokio::time::timeout(Duration::from_millis(100), self.expect_reply(self.step)).await {
            Ok(Err(reason)) => reason,
            Ok(Ok(_)) | Err(_) => error,
        }
    }

    /// Receives the next reply, unless it is a failure.
    async fn expect_reply(&mut self, step: Step) -> Result<Frame<Reply>, LaunchError> {
        self.step = step;
        match receive(&self.socket, &mut self.decoder, true).await {
            Ok(Some(Frame { body: Reply::Failed(failure), .. })) => Err(LaunchError::refused(failure)),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(LaunchError::closed(step, stderr_tail(&mut self.stderr))),
            Err(broken) => Err(Error::new(ErrorKind::Build, Step::Receive).detail(broken.to_string()).into()),
        }
    }
}

impl LaunchGroup {
    fn init_directory(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().and_then(|(group, _)| group.init_directory())
    }
}

impl Drop for LaunchGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            in_background(move || {
                drop(group);
                Ok(())
            });
        }
    }
}

/// Makes a control group for the runs, if this process may.
fn make_group() -> Result<Option<(RunGroup, CgroupSupport)>> {
    let found = Hierarchy::find().map_err(host_error(Step::MakeGroup))?;
    let Some(hierarchy) = found else { return Ok(None) };
    let groups = hierarchy.support();
    let group = RunGroup::new(hierarchy).map_err(|failure| Error::failure(ErrorKind::Host, failure))?;
    Ok(Some((group, groups)))
}

/// Starts stage one. Returns it with the host's ends of its socket and of its standard error.
fn start_stage_one(image: &OwnedFd, group: Option<BorrowedFd<'_>>) -> io::Result<(StageOne, Async, File)> {
    let (host, init) = socket::pair()?;
    let for_stage_one = host.try_clone()?;
    let socket = Async::new(host, Interest::READABLE | Interest::WRITABLE)?;
    let (stderr, init_stderr) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let null = File::open("/dev/null")?;
    let name = CString::new(INIT_ARGUMENT)?;
    let args = [c"cellblock-init", &name];
    let stdio = [init.as_fd(), null.as_fd(), init_stderr.as_fd()];
    let clone::Spawned { pid, pidfd } = clone::spawn(image.as_fd(), &args, stdio, group)?;
    Ok((StageOne::new(pid, pidfd, for_stage_one), socket, File::from(stderr)))
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

/// What this machine can hold for the runs of a container.
fn host_support(groups: Option<CgroupSupport>, own_ids: bool) -> HostSupport {
    let hard = |resource| nix::sys::resource::getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
    HostSupport {
        groups,
        nproc_scope: nproc_scope(own_ids),
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        configured_cpus: configured_cpus(),
        hard_stack: hard(nix::sys::resource::Resource::RLIMIT_STACK),
        hard_open_files: hard(nix::sys::resource::Resource::RLIMIT_NOFILE),
    }
}

/// The number of CPUs that the machine has, whether this process may use them or not.
fn configured_cpus() -> u32 {
    // The C library reads it from files.
    static COUNT: LazyLock<u32> = LazyLock::new(|| {
        let count = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_CONF).ok().flatten();
        count.and_then(|count| count.try_into().ok()).unwrap_or(u32::MAX)
    });
    *COUNT
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

fn out_of_place(reply: &Reply) -> Error {
    Error::new(ErrorKind::Build, Step::Receive).detail(format!("a reply out of place: {reply:?}"))
}
