//! The init: pid 1 of a container, the trusted half of the library that programs live next to.
//!
//! A blocking, single-threaded loop. It does one thing for each request and judges nothing.
//!
//! Invariant: it ends when its socket closes (exit 0) or when anything is not as it should be (exit 1), and the kernel
//! then ends everything in its pid namespace. A run is answered only when no process but the init is left.

mod exec;
pub(crate) mod files;
mod host;
mod meter;
mod rootfs;
mod stage_one;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use crate::error::{Failure, Step};
use crate::fingerprint::Fingerprint;
use crate::seccomp::Clone3;
use crate::sys::process::Alterable;
use crate::sys::{network, process, socket};
use crate::wire::{Frame, INIT_ARGUMENT, Ids, Reply, Request, State};

use exec::Runner;
use host::{End, Host, duplicate_from};
use meter::Group;
use rootfs::{Discarded, Rootfs};
use stage_one::become_pid_1;

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

/// Pid 1.
struct Init {
    host: Host,
    sigchld: SignalFd,
    runner: Runner,
    rootfs: Rootfs,
    program: Ids,
    /// Whether programs may have keys: the filter refuses those calls, to the init too.
    has_keys: bool,
    /// Whether programs have a network of their own: one that is up keeps connections after their end.
    loopback: bool,
    /// How everything was when it was new.
    first: Fingerprint,
    /// What the host wants to be open for as long as the container lives.
    _kept: Vec<OwnedFd>,
}

impl Init {
    /// Takes the configuration, which must come first, and makes the root file system.
    fn new(mut host: Host) -> Result<Self, End> {
        let Frame { id, body, fds: mut trees } = host.receive(State::Born)?;
        let Request::Configure(configure) = body else { unreachable!("the state admits nothing else") };
        let loopback = configure.loopback;
        let program = configure.program;
        let count = configure.mounts.iter().fold(0, |sum: usize, attach| sum.saturating_add(attach.trees));
        let kept = trees.split_off(count.min(trees.len()));
        let clone3 = if configure.clones_into_group { Clone3::Allowed } else { Clone3::Refused };
        let filter = configure.filter.compile(clone3);
        let has_keys = filter.is_none();
        let made = Rootfs::make(configure, trees);
        let rootfs = host.told(made)?;
        let sigchld = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), SfdFlags::SFD_CLOEXEC);
        let sigchld = host.told(sigchld.map_err(|error| Failure::new(Step::ResetInherited, error)))?;
        let runner = host.told(Runner::new(program))?;
        if loopback {
            host.told(raise_loopback())?;
        }
        if let Some(filter) = filter {
            let installed = process::install_filter(&filter);
            host.told(installed.map_err(|error| Failure::new(Step::InstallFilter, error)))?;
        }
        let unknown = Fingerprint::default();
        let mut init = Self { host, sigchld, runner, rootfs, program, has_keys, loopback, first: unknown, _kept: kept };
        init.first = init.host.told(init.fingerprint())?;
        init.host.send(id, &Reply::Done, Vec::new())?;
        Ok(init)
    }

    fn serve(mut self) -> Result<(), End> {
        let end = self.serve_to_the_end();
        // What is left dies with this process, if it can.
        self.runner.lift_rate()?;
        end
    }

    fn serve_to_the_end(&mut self) -> Result<(), End> {
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
            let mut fds = [self.host.as_fd(), self.sigchld.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
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
        // What has no name in a file system: System V objects.
        nix::sched::unshare(CloneFlags::CLONE_NEWIPC).map_err(|error| Failure::new(Step::NewIpcNamespace, error))?;
        if self.loopback {
            let unshared = nix::sched::unshare(CloneFlags::CLONE_NEWNET);
            unshared.map_err(|error| Failure::new(Step::NewNetNamespace, error))?;
            raise_loopback()?;
        }
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

    fn answer(&mut self, Frame { id, body, fds }: Frame<Request>) -> Result<(), End> {
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
            Request::StartRun(execve) => match self.runner.start(id, execve, fds) {
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

fn raise_loopback() -> Result<(), Failure> {
    network::bring_loopback_up().map_err(|error| Failure::new(Step::RaiseLoopback, error))
}
