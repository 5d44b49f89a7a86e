//! Pid 1: it takes its configuration and serves requests.
//!
//! Invariant: requests are carried out one at a time, in the order of their arrival. While a
//! program runs, the loop also waits for ends of children and for the run's times.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use crate::error::{Failure, ResultExt, Step};
use crate::seccomp::Needs;
use crate::sys::network;
use crate::sys::process::{self, Alterable};
use crate::wire::{
    BindAccess, Configure, FilterChoice, Frame, Ids, MountEntry, MountKind, RawFingerprint, Reply, Request, State,
};

use super::attached::Attached;
use super::files;
use super::host::{End, Host};
use super::meter::RunGroup;
use super::rootfs::{Discarded, Rootfs, is_root};
use super::runner::Runner;

pub(super) struct Init {
    host: Host,
    sigchld: SignalFd,
    runner: Runner,
    container: Container,
    /// The container's state before its first run, or when it was frozen.
    first: RawFingerprint,
    /// Descriptors that are open for as long as the container lives.
    _kept: Vec<OwnedFd>,
}

/// What a reset renews and a fingerprint shows.
struct Container {
    rootfs: Rootfs,
    program: Ids,
    /// Whether programs may have keys. The filter refuses those calls, also to the init.
    has_keys: bool,
    /// Whether programs have a network of their own. A network that is up keeps connections after
    /// the end of their processes.
    has_loopback: bool,
}

/// What the init woke up for.
struct Wakeup {
    has_request: bool,
    has_ended_child: bool,
}

impl Init {
    /// Takes the configuration, which must come first, and makes the root file system.
    pub(super) fn new(mut host: Host) -> Result<Self, End> {
        let Frame { id, body, fds } = host.receive(State::Born)?;
        let Request::Configure(configure) = body else { unreachable!("the state admits nothing else") };
        let Attached { trees, kept } = host.require(Attached::new(&configure, fds))?;

        let sigchld = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), SfdFlags::SFD_CLOEXEC);
        let sigchld = host.require(sigchld.step(Step::ResetInherited))?;
        let (container, runner) = host.require(set_up(configure, trees))?;
        let first = host.require(container.fingerprint())?;
        host.send(id, &Reply::Done, Vec::new())?;
        Ok(Self { host, sigchld, runner, container, first, _kept: kept })
    }

    pub(super) fn serve(mut self) -> Result<(), End> {
        let end = self.serve_requests();
        // The kernel kills what is left together with this process, but only as fast as its CPU
        // rate.
        self.runner.lift_rates()?;
        end
    }

    fn serve_requests(&mut self) -> Result<(), End> {
        loop {
            if self.runner.is_running() && !self.attend_run()? {
                continue;
            }
            let state = if self.runner.is_running() { State::Running } else { State::Idle };
            let request = self.host.receive(state)?;
            self.answer(request)?;
        }
    }

    /// Waits for an event, and does what the run needs then. Returns whether there is a request.
    fn attend_run(&mut self) -> Result<bool, End> {
        let Wakeup { has_request, has_ended_child } = self.wait()?;
        let over = if has_ended_child { self.runner.reap()? } else { None };
        self.runner.enforce_times()?;
        if let Some((id, reply)) = over {
            self.host.send(id, &reply, Vec::new())?;
        }
        Ok(has_request)
    }

    /// Waits for a request, a child's end, or the next check of the run's times.
    fn wait(&self) -> Result<Wakeup, Failure> {
        let is_behind = self.runner.has_unreaped();
        let timeout = if is_behind { Some(Duration::ZERO) } else { self.runner.time_to_next_check() };
        let mut fds = [self.host.as_fd(), self.sigchld.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match ppoll(&mut fds, timeout.map(TimeSpec::from), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new(Step::Wait, errno)),
        }
        let [has_request, has_ended_child] = fds.each_ref().map(|fd| fd.any().unwrap_or(true));
        if has_ended_child {
            self.sigchld.read_signal().step(Step::Wait)?;
        }
        Ok(Wakeup { has_request, has_ended_child: has_ended_child || is_behind })
    }

    fn answer(&mut self, Frame { id, body, fds }: Frame<Request>) -> Result<(), End> {
        let program = self.container.program;
        let reply = match body {
            Request::Ping => Reply::Done,
            Request::Open(files) => {
                let (reply, fds) = files::open_all(&files, program);
                return self.host.send(id, &reply, fds);
            }
            Request::Symlink(links) => files::link_all(&links, program),
            Request::MakeDirectories(directories) => files::make_all(&directories, program),
            Request::Delete(paths) => files::delete_all(&paths),
            Request::Rename(rename) => files::rename(&rename).map_or_else(Reply::Failed, |()| Reply::Done),
            Request::Metadata(path) => files::metadata(&path).map_or_else(Reply::Failed, Reply::Metadata),
            Request::ReadLink(path) => files::read_link(&path).map_or_else(Reply::Failed, Reply::Target),
            Request::OpenDirectory(path) => match files::open_directory(&path) {
                Ok(directory) => return self.host.send(id, &Reply::Directory, vec![directory.into()]),
                Err(failure) => Reply::Failed(failure),
            },
            Request::Reset => return self.reset(id),
            Request::Freeze => return self.freeze(id),
            Request::Fingerprint => self.container.fingerprint().map_or_else(Reply::Failed, Reply::Fingerprint),
            Request::StartRun(request) => match self.runner.start(id, request, fds) {
                Ok(None) => return Ok(()),
                Ok(Some(pidfd)) => return self.announce(id, pidfd),
                Err(failure) => Reply::Failed(failure),
            },
            Request::StartBeside(request) => match self.runner.start_beside(id, request, fds)? {
                Ok(None) => return Ok(()),
                Ok(Some(pidfd)) => return self.announce(id, pidfd),
                Err(failure) => Reply::Failed(failure),
            },
            Request::Kill(run, reason) => return self.runner.kill(run, reason),
            Request::Signal(run, number) => {
                self.runner.signal(run, number).map_or_else(Reply::Failed, |()| Reply::Done)
            }
            Request::Join(group) => {
                self.runner.join(RunGroup::new(group, fds)?);
                return Ok(());
            }
            Request::Start { .. } | Request::Configure(_) => unreachable!("the state does not admit it"),
        };
        self.host.send(id, &reply, Vec::new())
    }

    fn reset(&mut self, id: u64) -> Result<(), End> {
        let reset = self.container.reset().and_then(|discarded| Ok((discarded, self.container.fingerprint()?)));
        let (discarded, now) = match reset {
            Ok(reset) => reset,
            Err(failure) => return self.host.send(id, &Reply::Failed(failure), Vec::new()),
        };
        let reply = if now == self.first { Reply::Done } else { Reply::Differs { first: self.first.clone(), now } };
        self.host.send(id, &reply, Vec::new())?;
        // After the answer and before the next request: this may take a while.
        drop(discarded);
        Ok(())
    }

    /// Makes the present state the first one.
    fn freeze(&mut self, id: u64) -> Result<(), End> {
        let frozen = self.container.freeze().and_then(|discarded| Ok((discarded, self.container.fingerprint()?)));
        let reply = match frozen {
            Ok((_, now)) => {
                self.first = now;
                Reply::Done
            }
            Err(failure) => Reply::Failed(failure),
        };
        self.host.send(id, &reply, Vec::new())
    }

    /// Sends the pidfd of a run that has just been started. A run that cannot be announced is
    /// killed.
    fn announce(&mut self, run: u64, pidfd: OwnedFd) -> Result<(), End> {
        match self.host.try_send(run, &Reply::Forked, vec![pidfd.into()])? {
            Ok(()) => Ok(()),
            Err(failure) => self.runner.abandon(run, failure),
        }
    }
}

/// Makes everything that is configured. The filter comes last, because it applies to the init as
/// well.
fn set_up(mut configure: Configure, trees: Vec<Vec<OwnedFd>>) -> Result<(Container, Runner), Failure> {
    let (program, has_loopback) = (configure.program, configure.loopback);
    let needs = Needs {
        clone3: configure.clones_into_group,
        sync: configure.mounts.iter().any(writes_to_host),
        chroot: configure.mounts.iter().any(is_root),
    };
    let filter = configure.filter.compile(needs);
    let env = std::mem::take(&mut configure.env);
    let has_keys = configure.filter == FilterChoice::Off;

    let (rootfs, null) = Rootfs::make(configure, trees)?;
    let runner = Runner::new(program, null, &env)?;
    if has_loopback {
        network::bring_loopback_up().step(Step::RaiseLoopback)?;
    }
    if let Some(filter) = filter {
        process::install_filter(&filter).step(Step::InstallFilter)?;
    }
    Ok((Container { rootfs, program, has_keys, has_loopback }, runner))
}

fn writes_to_host(mount: &MountEntry) -> bool {
    matches!(mount.kind, MountKind::Bind { access: BindAccess::Writable, .. })
}

impl Container {
    /// Brings everything that runs may have changed back to its first state.
    fn reset(&mut self) -> Result<Discarded, Failure> {
        let discarded = self.rootfs.reset()?;
        self.reset_others()?;
        Ok(discarded)
    }

    /// Makes the present state of the file systems the first one. All else that runs may have
    /// changed is brought back to its first state.
    fn freeze(&mut self) -> Result<Discarded, Failure> {
        let discarded = self.rootfs.freeze()?;
        self.reset_others()?;
        Ok(discarded)
    }

    /// Brings what is in no file system back to its first state.
    fn reset_others(&self) -> Result<(), Failure> {
        // System V objects have no name in a file system.
        nix::sched::unshare(CloneFlags::CLONE_NEWIPC).step(Step::NewIpcNamespace)?;
        if self.has_loopback {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).step(Step::NewNetNamespace)?;
            network::bring_loopback_up().step(Step::RaiseLoopback)?;
        }
        if self.has_keys {
            process::new_session_keyring().step(Step::ResetInherited)?;
        }
        Ok(())
    }

    fn fingerprint(&self) -> Result<RawFingerprint, Failure> {
        let Alterable { limits, priority, io_priority, scheduling, cpus } =
            process::alterable().step(Step::TakeFingerprint)?;
        let ipc = process::count_ipc_objects().step(Step::TakeFingerprint)?;
        let file_systems = self.rootfs.fingerprints()?;
        Ok(RawFingerprint { limits, priority, io_priority, scheduling, cpus, ipc, file_systems })
    }
}
