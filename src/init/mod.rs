//! The init: pid 1 of a container, the trusted half of the library that programs live next to.
//!
//! A blocking, single-threaded loop. It does one thing for each request and judges nothing.
//!
//! Invariant: it ends when its socket closes (exit 0) or when anything is not as it should be (exit 1), and the kernel
//! then ends everything in its pid namespace. A run is answered only when no process but the init is left.

mod exec;
pub(crate) mod files;
mod meter;
mod rootfs;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Pid, Uid, dup2_stdin, dup2_stdout, setgroups, setpgid, setresgid, setresuid};

use crate::error::{Failure, Step};
use crate::fingerprint::Fingerprint;
use crate::seccomp::Clone3;
use crate::sys::process::Alterable;
use crate::sys::{clone, process, socket};
use crate::wire::{self, Broken, Decoder, INIT_ARGUMENT, Ids, Message, Peer, Reply, Request, State};

use exec::Runner;
use meter::Group;
use rootfs::{Discarded, Rootfs};

/// Whether this process was started to be an init, as its arguments say.
pub(crate) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == INIT_ARGUMENT)
}

/// Becomes an init if this process was started to be one, and then never returns.
pub(crate) fn enter() {
    if !is_asked_for() || !socket::is_seqpacket(io::stdin()) {
        return;
    }
    // A panic must not unwind into the caller's main, nor be one that the caller's own hook hides.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("cellblock-init: {panic}");
        std::process::exit(1);
    }));
    let end = match become_pid_1().and_then(|host| match host {
        Some(host) => Init::new(host)?.serve(),
        None => Ok(()),
    }) {
        Ok(()) | Err(End::Closed) => 0,
        Err(End::Fatal(reason)) => {
            eprintln!("cellblock-init: {reason}");
            1
        }
    };
    std::process::exit(end);
}

/// Why an init ends.
enum End {
    /// The host closed the socket.
    Closed,
    Fatal(String),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => Self::Closed,
            broken => Self::Fatal(broken.to_string()),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Fatal(failure.to_string())
    }
}

/// The init's end of the socket.
struct Host {
    /// Closes when the process ends, and not before: the host kills an init whose socket is closed, and would not hear
    /// what that says last.
    socket: ManuallyDrop<OwnedFd>,
    decoder: Decoder,
}

impl Host {
    /// Takes the socket away from standard input, where a program would otherwise find it, and leaves /dev/null there
    /// and on standard output.
    fn from_stdin() -> Result<Self, Failure> {
        let take = || -> io::Result<OwnedFd> {
            let socket = duplicate_from(io::stdin(), 3)?;
            let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            Ok(socket)
        };
        let socket = take().map_err(|error| Failure::new(Step::ResetInherited, error))?;
        Ok(Self { socket: ManuallyDrop::new(socket), decoder: Decoder::new(Peer::Host) })
    }

    /// Sends a reply or, where its descriptors cannot be sent, that.
    fn send(&self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> Result<(), End> {
        match self.try_send(id, reply, fds)? {
            Ok(()) => Ok(()),
            Err(failure) => self.send(id, &Reply::Failed(failure), Vec::new()),
        }
    }

    fn try_send(&self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> Result<Result<(), Failure>, End> {
        let failure = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => End::Closed,
            _ => End::Fatal(format!("{}: {error}", Step::Send)),
        };
        for datagram in wire::encode(id, reply, fds).map_err(failure)? {
            match datagram.send(&*self.socket, true) {
                // Too many of the user's descriptors are on their way somewhere: that passes. Nothing of this reply has left.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) && datagram.begins.is_some() => {
                    return Ok(Err(Failure::new(Step::Send, error)));
                }
                sent => sent.map_err(failure)?,
            }
        }
        Ok(Ok(()))
    }

    /// The next request, which must be one that this state admits.
    fn receive(&mut self, state: State) -> Result<Message<Request>, End> {
        let message = self.decoder.receive(&*self.socket, true)?.ok_or(End::Closed)?;
        if !state.admits(&message.body) {
            return Err(End::Fatal(format!("a request out of place ({state:?}): {:?}", message.body)));
        }
        Ok(message)
    }
}

/// A copy of a descriptor with the lowest free number that is at least `lowest`.
fn duplicate_from(fd: impl AsFd, lowest: i32) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, lowest)?)
}

/// Stage one: unshares, waits for the id maps, and makes pid 1. `None` in stage one itself, once that is done.
fn become_pid_1() -> Result<Option<Host>, End> {
    let mut host = Host::from_stdin()?;
    // Pid 1 is in this group until the host has its pidfd: so it can be found, and reaped, whenever it dies.
    let grouped = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    told(&host, grouped.map_err(|error| Failure::new(Step::ResetInherited, error)))?;
    let named = process::set_name(c"cellblock-init");
    told(&host, named.map_err(|error| Failure::new(Step::ResetInherited, error)))?;
    // Before it has other ids, with which it may not.
    told(&host, dump_no_memory())?;
    // The user namespace first: while the host writes its maps, the others are made, of which the network's takes longest.
    told(&host, unshare(CloneFlags::CLONE_NEWUSER))?;
    host.send(0, &Reply::Hello(wire::VERSION), Vec::new())?;
    let others = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    told(&host, unshare(others))?;

    let started = host.receive(State::Unshared)?;
    if let Request::Start { cgroup_namespace: true } = started.body {
        told(&host, unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    told(&host, take_ids())?;
    told(&host, forbid_nested_namespaces())?;
    told(&host, share_inotify())?;
    let forked = clone::fork_to_parent().map_err(|error| Failure::new(Step::ForkPid1, error));
    if !told(&host, forked)? {
        return Ok(None);
    }
    let failure = |error| Failure::new(Step::ResetInherited, error);
    let pidfd = told(&host, process::Pidfd::of_self().map_err(failure))?;
    host.send(0, &Reply::Started, vec![pidfd.into()])?;
    told(&host, reset_inherited().map_err(failure))?;
    Ok(Some(host))
}

fn unshare(namespaces: CloneFlags) -> Result<(), Failure> {
    nix::sched::unshare(namespaces).map_err(|error| Failure::new(Step::Unshare, error))
}

/// Tells the host of a failure that the init does not survive.
fn told<T>(host: &Host, result: Result<T, Failure>) -> Result<T, End> {
    match result {
        Ok(value) => Ok(value),
        Err(failure) => {
            host.send(0, &Reply::Failed(failure.clone()), Vec::new())?;
            Err(failure.into())
        }
    }
}

fn take_ids() -> Result<(), Failure> {
    let take = || {
        setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
        setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
        // Where only one id is mapped the kernel denies setgroups for good: the groups of an ordinary user stay, and
        // give nothing inside that they do not give outside.
        if std::fs::read("/proc/self/setgroups")?.starts_with(b"deny") {
            return Ok(());
        }
        Ok(setgroups(&[])?)
    };
    take().map_err(|error: io::Error| Failure::new(Step::TakeIds, error))
}

/// In a user namespace of its own a program would have every capability over what it makes there.
fn forbid_nested_namespaces() -> Result<(), Failure> {
    const MOST: &str = "/proc/sys/user/max_user_namespaces";
    std::fs::write(MOST, "0").map_err(|error| Failure::at(Step::ForbidNamespaces, MOST, error))
}

/// What a container has of these is the host's user's as well, who has 128 instances for all.
fn share_inotify() -> Result<(), Failure> {
    for (most, count) in [("max_inotify_instances", "4"), ("max_inotify_watches", "4096")] {
        let most = format!("/proc/sys/user/{most}");
        match std::fs::write(&most, count) {
            // A kernel without.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            written => written.map_err(|error| Failure::at(Step::ResetInherited, most, error))?,
        }
    }
    Ok(())
}

/// Lowers, for itself and all that it starts, the limits of what the kernel counts for the host's user too, whatever ids a
/// container has: else one run could take all of it. And nobody gets ahead of the init, whatever the host may.
fn lower_limits() -> nix::Result<()> {
    let lowered = [
        // With the timers of timer_create(2).
        (Resource::RLIMIT_SIGPENDING, 256),
        // One queue as mq_open(3) makes it.
        (Resource::RLIMIT_MSGQUEUE, 88 << 10),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        // No dump is as small as that. Where dumps go to a program of the host's, the kernel starts it whatever the limit is,
        // unless it is this one (coredump_pipe in Linux's fs/coredump.c). The filter keeps it so.
        (Resource::RLIMIT_CORE, 1),
        (Resource::RLIMIT_RTPRIO, 0),
        (Resource::RLIMIT_NICE, 0),
    ];
    for (resource, most) in lowered {
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, hard.min(most), hard.min(most))?;
    }
    Ok(())
}

/// Where core dumps go is the host's to say and, where they go to a program, no resource limit bounds them. What is dumped
/// does, and it is inherited: it cannot be changed by who has only a read-only proc.
fn dump_no_memory() -> Result<(), Failure> {
    const FILTER: &str = "/proc/self/coredump_filter";
    match std::fs::write(FILTER, "0") {
        // A kernel that makes no dumps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.map_err(|error| Failure::at(Step::ResetInherited, FILTER, error)),
    }
}

fn reset_inherited() -> io::Result<()> {
    process::deny_tracing()?;
    process::reset_signals()?;
    lower_limits()?;
    process::new_session_keyring()?;
    process::forbid_privileges_to_children()?;
    nix::unistd::setsid()?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Pid 1.
struct Init {
    host: Host,
    sigchld: SignalFd,
    runner: Runner,
    rootfs: Rootfs,
    program: Ids,
    /// Whether programs may have keys: the filter refuses those calls, to the init too.
    has_keys: bool,
    /// How everything was when it was new.
    first: Fingerprint,
    /// What the host wants to be open for as long as the container lives.
    _kept: Vec<OwnedFd>,
}

impl Init {
    /// Takes the configuration, which must come first, and makes the root file system.
    fn new(mut host: Host) -> Result<Self, End> {
        let Message { id, body, fds: mut trees } = host.receive(State::Born)?;
        let Request::Configure(configure) = body else { unreachable!("the state admits nothing else") };
        let program = configure.program;
        let count = configure.mounts.iter().fold(0, |sum: usize, attach| sum.saturating_add(attach.trees));
        let kept = trees.split_off(count.min(trees.len()));
        let clone3 = if configure.clones_into_group { Clone3::Allowed } else { Clone3::Refused };
        let filter = configure.filter.compile(clone3);
        let has_keys = filter.is_none();
        let made = Rootfs::make(configure, trees);
        let rootfs = told(&host, made)?;
        let sigchld = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), SfdFlags::SFD_CLOEXEC);
        let sigchld = told(&host, sigchld.map_err(|error| Failure::new(Step::ResetInherited, error)))?;
        let runner = told(&host, Runner::new(program))?;
        if let Some(filter) = filter {
            let installed = process::install_filter(&filter);
            told(&host, installed.map_err(|error| Failure::new(Step::InstallFilter, error)))?;
        }
        let unknown = Fingerprint::default();
        let mut init = Self { host, sigchld, runner, rootfs, program, has_keys, first: unknown, _kept: kept };
        init.first = told(&init.host, init.fingerprint())?;
        init.host.send(id, &Reply::Done, Vec::new())?;
        Ok(init)
    }

    fn serve(mut self) -> Result<(), End> {
        loop {
            if self.runner.is_running() {
                let (has_request, has_ended) = self.wait()?;
                let ended = if has_ended { self.runner.reap()? } else { None };
                self.runner.look()?;
                if let Some((id, reply)) = ended {
                    self.host.send(id, &reply, Vec::new())?;
                }
                if !has_request {
                    continue;
                }
            }
            let state = if self.runner.is_running() { State::Running } else { State::Idle };
            let message = self.host.receive(state)?;
            self.answer(message)?;
        }
    }

    /// Waits for a request or a child's end, or until there is something to look at.
    fn wait(&self) -> Result<(bool, bool), End> {
        let wait = || -> nix::Result<_> {
            let mut fds = [self.host.socket.as_fd(), self.sigchld.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match ppoll(&mut fds, self.runner.patience().map(TimeSpec::from), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let [request, child] = fds.each_ref().map(|fd| fd.any().unwrap_or(true));
            if child {
                self.sigchld.read_signal()?;
            }
            Ok((request, child))
        };
        wait().map_err(|error| Failure::new(Step::Wait, error).into())
    }

    /// Makes everything that runs may have changed as good as new, and tells what is not.
    fn reset(&mut self) -> Result<(Discarded, Vec<String>), Failure> {
        let discarded = self.rootfs.reset()?;
        // What has no name in a file system: System V objects and message queues.
        nix::sched::unshare(CloneFlags::CLONE_NEWIPC).map_err(|error| Failure::new(Step::NewIpcNamespace, error))?;
        if self.has_keys {
            let keyring = process::new_session_keyring();
            keyring.map_err(|error| Failure::new(Step::ResetInherited, error))?;
        }
        let differences = self.first.differences(&self.fingerprint()?);
        Ok((discarded, differences))
    }

    fn fingerprint(&self) -> Result<Fingerprint, Failure> {
        let failure = |error| Failure::new(Step::TakeFingerprint, error);
        let Alterable { limits, priority, io_priority, scheduling, cpus } = process::alterable().map_err(failure)?;
        let ipc = process::count_ipc_objects().map_err(failure)?;
        let file_systems = self.rootfs.fingerprints()?;
        Ok(Fingerprint { limits, priority, io_priority, scheduling, cpus, ipc, file_systems })
    }

    fn answer(&mut self, Message { id, body, fds }: Message<Request>) -> Result<(), End> {
        let done = |result: Result<(), Failure>| result.map_or_else(Reply::Failed, |()| Reply::Done);
        let reply = match body {
            Request::Ping => Reply::Done,
            Request::Open(files) => {
                let (reply, fds) = files::open_all(&files, self.program);
                return self.host.send(id, &reply, fds);
            }
            Request::Symlink(links) => files::link_all(&links, self.program),
            Request::Delete(path) => done(files::delete(&path)),
            Request::Reset => match self.reset() {
                Ok((discarded, differences)) => {
                    let reply = if differences.is_empty() { Reply::Done } else { Reply::Differs(differences) };
                    self.host.send(id, &reply, Vec::new())?;
                    // After the answer, and before the next request.
                    drop(discarded);
                    return Ok(());
                }
                Err(failure) => Reply::Failed(failure),
            },
            Request::Fingerprint => self.fingerprint().map_or_else(Reply::Failed, Reply::Fingerprint),
            Request::Execve(execve) => match self.runner.start(id, execve, fds) {
                Ok(None) => return Ok(()),
                Ok(Some(pidfd)) => {
                    return match self.host.try_send(id, &Reply::Forked, vec![pidfd.into()])? {
                        Ok(()) => Ok(()),
                        Err(failure) => self.runner.give_up(failure),
                    };
                }
                Err(failure) => Reply::Failed(failure),
            },
            Request::Kill(run, reason) => return self.runner.kill(run, reason),
            Request::Join(group) => {
                self.runner.join(Group::new(group, fds)?);
                return Ok(());
            }
            Request::Start { .. } | Request::Configure(_) => unreachable!("the state does not admit it"),
        };
        self.host.send(id, &reply, Vec::new())
    }
}
