//! The runs: a main one, others beside it, the processes that each leaves, and the measurement.
//!
//! Invariant: there is one main run at a time. When its first process ends or its time is up, the
//! init kills every other process of its pid namespace, and with them the runs beside it, whose
//! namespaces are below that one. The main run is over only when no child is left to reap.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::error::{Failure, ResultExt, Step};
use crate::sys::child::{ChildOptions, Children, Op, Reaped, Rusage, Started, next_ended};
use crate::sys::landlock::{self, Ruleset};
use crate::sys::{process, reaper};
use crate::wire::{Ids, KillReason, Reply, StartBeside, StartRun, Strings, WaitStatus};

use super::beside::Beside;
use super::environment::default_environment;
use super::host::End;
use super::meter::{Namespace, ProcessTable, RunGroup, Scope, cpu_time};
use super::null::NullDevice;
use super::run::{Ended, Run};
use super::steps::{AttachedFds, ContainerParts, child_steps};

/// How many children the init reaps before it looks at the run's times and at its socket again.
/// Programs can make orphans that die as fast as the init reaps them.
const REAPED_AT_ONCE: usize = 32;

pub(super) struct Runner {
    children: Children<Step>,
    program: Ids,
    null: NullDevice,
    has_landlock: bool,
    default_env: Strings,
    group: Option<RunGroup>,
    /// Opened for the first run beside another one, and for the first whose CPU time no group
    /// counts.
    processes: Option<ProcessTable>,
    main: Option<Run>,
    besides: Vec<Beside>,
    /// Whether the last [`reap`](Self::reap) stopped early, so that ended children may be left.
    has_unreaped: bool,
}

/// What a run needs until its program is cloned.
struct Prepared {
    steps: Vec<(Step, Op)>,
    may_wait: bool,
    wants_pidfd: bool,
    _fds: AttachedFds,
    _ruleset: Option<Ruleset>,
}

impl Runner {
    /// `env` are variables that a run gets if neither it nor the container's own file sets them.
    pub(super) fn new(program: Ids, null: NullDevice, env: &Strings) -> Result<Self, Failure> {
        Ok(Self {
            children: Children::new().step(Step::ResetInherited)?,
            program,
            null,
            has_landlock: landlock::is_supported(),
            default_env: default_environment(env)?,
            group: None,
            processes: None,
            main: None,
            besides: Vec::new(),
            has_unreaped: false,
        })
    }

    /// Puts later runs into this group.
    pub(super) fn join(&mut self, group: RunGroup) {
        self.group = Some(group);
    }

    pub(super) fn is_running(&self) -> bool {
        self.main.is_some()
    }

    /// Starts the main run. The descriptors are closed here once the child has its own copies.
    /// Returns the process's pidfd if the run is to be announced.
    pub(super) fn start(&mut self, id: u64, request: StartRun, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
        let mut run = Run::new(id, &request);
        let prepared = self.prepare(request, fds, self.group.as_ref())?;
        if let Some(group) = &mut self.group {
            group.start_counting()?;
        }
        run.start_clocks();
        let started = prepared.start(&mut self.children, self.group.as_ref())?;
        run.pid = Some(started.pid);
        self.main = Some(run);
        Ok(started.pidfd)
    }

    /// Starts a run beside the main one, as [`start`](Self::start) does. An inner `Err` is the
    /// reply.
    pub(super) fn start_beside(
        &mut self,
        id: u64,
        request: StartBeside,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Result<Option<OwnedFd>, Failure>, End> {
        let StartBeside { main, run: request, group } = request;
        // A run that is ending may have killed its last process already.
        if !self.main.as_ref().is_some_and(|run| run.id == main && run.is_alive()) {
            return Ok(Err(Failure::new(Step::FindRun, Errno::ESRCH)));
        }
        let of_group = fds.split_off(request.fds.len().min(fds.len()));
        let mut run = Run::new(id, &request);
        let has_cpu_limit = request.times.cpu.is_some();
        let prepare = || {
            let mut group = group.map(|files| RunGroup::new(files, of_group)).transpose()?;
            // The main run could stop the child before it executes, and so the init with it.
            let prepared = Prepared { may_wait: true, ..self.prepare(request, fds, group.as_ref())? };
            group.iter_mut().try_for_each(RunGroup::start_counting)?;
            Ok((prepared, group))
        };
        let (prepared, group) = match prepare() {
            Ok(ready) => ready,
            Err(failure) => return Ok(Err(failure)),
        };
        // The kernel refuses a proc to a container that has none. The processes are then those of
        // the run's group or, if they are the init's children, of the main run.
        let is_counted = group.as_ref().is_some_and(RunGroup::counts_cpu_time);
        let processes = match ProcessTable::opened(&mut self.processes) {
            Ok(processes) => Some(processes),
            Err(failure) if has_cpu_limit && !is_counted => return Ok(Err(failure)),
            Err(_) => None,
        };
        if let Err(error) = reaper::unshare_pid_namespace() {
            return Ok(Err(Failure::new(Step::EnterPidNamespace, error)));
        }
        run.start_clocks();
        let reaper = self.children.start_reaper().step(Step::EnterPidNamespace);
        let started = reaper.as_ref().map_err(Clone::clone).and_then(|_| {
            let namespace = processes.map(ProcessTable::namespace_of_children).transpose();
            let namespace = namespace.step(Step::ReadProcesses)?;
            Ok((namespace, prepared.start(&mut self.children, group.as_ref())?))
        });
        // Otherwise the next main run would be in that namespace.
        reaper::return_to_own_pid_namespace().step(Step::EnterPidNamespace)?;
        let reaper = match reaper {
            Ok(reaper) => reaper,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut beside = Beside::new(run, group, reaper);
        let pidfd = match started {
            Ok((namespace, started)) => {
                beside.namespace = namespace;
                beside.run.pid = Some(started.pid);
                started.pidfd
            }
            Err(failure) => {
                // The reply follows when the reaper has ended.
                beside.run.abandoned = Some(failure);
                beside.sweep()?;
                None
            }
        };
        self.besides.push(beside);
        Ok(Ok(pidfd))
    }

    /// Makes ready what the child of a run needs.
    fn prepare(&self, request: StartRun, fds: Vec<OwnedFd>, group: Option<&RunGroup>) -> Result<Prepared, Failure> {
        let fds = AttachedFds::new(&request.fds, fds)?;
        let ruleset = if self.has_landlock { Ruleset::for_files(fds.iter()) } else { Ok(None) };
        let ruleset = ruleset.step(Step::RestrictFiles)?;
        let may_wait = request.throttled || fds.has_gate();
        let wants_pidfd = request.announce;
        let parts = ContainerParts {
            program: self.program,
            null: &self.null,
            default_env: &self.default_env,
            group,
            ruleset: ruleset.as_ref(),
        };
        let steps = child_steps(request, &fds, &parts)?;
        Ok(Prepared { steps, may_wait, wants_pidfd, _fds: fds, _ruleset: ruleset })
    }

    /// Kills the run with this id, if there is one. The first reason counts, and only if it came
    /// before the program's own end.
    pub(super) fn kill(&mut self, id: u64, reason: KillReason) -> Result<(), End> {
        if let Some(run) = self.main.as_mut().filter(|run| run.id == id) {
            run.note_kill(reason);
            self.kill_all()?;
        } else if let Some(beside) = self.besides.iter_mut().find(|beside| beside.run.id == id) {
            beside.kill(reason)?;
        }
        Ok(())
    }

    /// Kills the run with this id, which has just been started, and makes this failure its reply.
    pub(super) fn abandon(&mut self, id: u64, failure: Failure) -> Result<(), End> {
        if let Some(run) = self.find(id) {
            run.abandoned = Some(failure);
        }
        self.kill(id, KillReason::Request)
    }

    /// Sends a signal to the program of the run with this id.
    pub(super) fn signal(&mut self, id: u64, number: i32) -> Result<(), Failure> {
        // The pid is that of the program as long as the program has not been reaped.
        let pid = self.find(id).and_then(|run| run.pid).ok_or(Errno::ESRCH).step(Step::Signal)?;
        let signal = Signal::try_from(number).step(Step::Signal)?;
        nix::sys::signal::kill(Pid::from_raw(pid), signal).step(Step::Signal)
    }

    fn find(&mut self, id: u64) -> Option<&mut Run> {
        let besides = self.besides.iter_mut().map(|beside| &mut beside.run);
        self.main.iter_mut().chain(besides).find(|run| run.id == id)
    }

    /// Kills every process but the init. The CPU rates go first, or they would keep processes from
    /// dying.
    fn kill_all(&mut self) -> Result<(), Failure> {
        self.lift_rates()?;
        self.besides.iter_mut().for_each(Beside::note_end_of_main);
        process::kill_all_others().step(Step::Wait)
    }

    /// Lifts the CPU rates of the runs.
    pub(super) fn lift_rates(&self) -> Result<(), Failure> {
        match &self.group {
            Some(group) if self.main.as_ref().is_some_and(|run| run.throttled) => group.lift_rate()?,
            _ => {}
        }
        self.besides.iter().try_for_each(Beside::lift_rate)
    }

    /// The time until [`enforce_times`](Self::enforce_times) has something to check. `None`:
    /// forever.
    pub(super) fn time_to_next_check(&self) -> Option<Duration> {
        let besides = self.besides.iter().filter_map(Beside::next_check);
        let next = self.main.as_ref().and_then(Run::next_check).into_iter().chain(besides).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Kills each run that has used up its wall time or its CPU time.
    pub(super) fn enforce_times(&mut self) -> Result<(), End> {
        let Self { main, besides, group, processes, .. } = self;
        if let Some(run) = main.as_mut().filter(|run| run.is_alive()) {
            let scope = if besides.is_empty() { Scope::Container } else { Scope::Main };
            let cpu_time = |run: &Run| cpu_time(run.reaped_cpu_time(), group.as_ref(), processes, scope);
            if let Some(reason) = run.overrun(cpu_time)? {
                let id = run.id;
                return self.kill(id, reason);
            }
        }
        Ok(besides.iter_mut().try_for_each(|beside| beside.enforce_times(processes))?)
    }

    /// Whether [`reap`](Self::reap) has to be called again without a further SIGCHLD.
    pub(super) fn has_unreaped(&self) -> bool {
        self.has_unreaped
    }

    /// Reaps children that have ended, up to [`REAPED_AT_ONCE`]. Returns the id and the reply of a
    /// run that is over. The main run is the last.
    pub(super) fn reap(&mut self) -> Result<Option<(u64, Reply)>, End> {
        self.has_unreaped = false;
        for _ in 0..REAPED_AT_ONCE {
            let (reaped, namespace) = self.reap_one()?;
            let Some(main) = &mut self.main else {
                return Ok(None);
            };
            match reaped {
                Reaped::Program { pid, status, usage, outcome } => {
                    let ended = Ended { status: WaitStatus(status), outcome, is_swept: false };
                    if main.pid == Some(pid) {
                        main.end(usage, ended);
                    } else if let Some(beside) = self.besides.iter_mut().find(|beside| beside.run.pid == Some(pid)) {
                        beside.run.end(usage, ended);
                        beside.sweep()?;
                    }
                }
                Reaped::Other { pid, usage } => {
                    if let Some(beside) = self.finish_beside(pid, namespace, usage) {
                        self.has_unreaped = true;
                        return beside.into_reply().map(Some);
                    }
                }
                // Kill before waiting: a traced zombie is released only by its tracer's death.
                Reaped::Alive if self.sweep()? => {}
                Reaped::Alive => return Ok(None),
                // Every process of the namespace descends from a child of pid 1, so none is left.
                Reaped::NoChild => return self.finish_main().map(Some),
            }
        }
        // The orphans of a program that has ended may go on for as long as they are not killed.
        self.sweep()?;
        self.has_unreaped = true;
        Ok(None)
    }

    /// Reaps a child that has ended. Also returns its pid namespace if that may not be the init's.
    fn reap_one(&mut self) -> Result<(Reaped<Step>, Option<Namespace>), Failure> {
        if self.besides.is_empty() {
            return Ok((self.children.reap().step(Step::Wait)?, None));
        }
        let pid = match next_ended() {
            Ok(Some(pid)) => pid,
            Ok(None) => return Ok((Reaped::Alive, None)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok((Reaped::NoChild, None)),
            Err(error) => return Err(Failure::new(Step::Wait, error)),
        };
        let namespace = self.processes.as_ref().and_then(|processes| processes.namespace_of(pid).ok());
        Ok((self.children.reap_one(pid).step(Step::Wait)?, namespace))
    }

    /// Counts a process that the init has reaped for its run. Returns the run beside the main one
    /// whose reaper it was.
    fn finish_beside(&mut self, pid: i32, namespace: Option<Namespace>, usage: Rusage) -> Option<Beside> {
        // A program can start a process as a child of its parent, the init (CLONE_PARENT).
        let is_its = |beside: &Beside| beside.reaper == pid || (namespace.is_some() && beside.namespace == namespace);
        let Some(place) = self.besides.iter().position(is_its) else {
            self.main.iter_mut().for_each(|run| run.add(usage));
            return None;
        };
        self.besides[place].run.add(usage);
        (self.besides[place].reaper == pid).then(|| self.besides.swap_remove(place))
    }

    fn finish_main(&mut self) -> Result<(u64, Reply), End> {
        match self.main.take() {
            Some(run) if self.besides.is_empty() => Ok((run.id, run.into_reply(self.group.as_ref())?)),
            _ => Err(End::Fatal("a run ended twice, or before one beside it".into())),
        }
    }

    /// Kills what the main program left, once it has ended. Returns false if there is nothing to
    /// do, or if it was done before.
    fn sweep(&mut self) -> Result<bool, Failure> {
        match self.main.as_mut().and_then(|run| run.ended.as_mut()) {
            Some(ended) if !ended.is_swept => {
                ended.is_swept = true;
                self.kill_all()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Prepared {
    /// Clones the program.
    fn start(self, children: &mut Children<Step>, group: Option<&RunGroup>) -> Result<Started, Failure> {
        let Self { steps, may_wait, wants_pidfd, .. } = self;
        let group = group.and_then(RunGroup::directory);
        children.start(steps, ChildOptions { group, may_wait, wants_pidfd }).step(Step::Clone)
    }
}
