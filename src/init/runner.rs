//! One run: a program, the processes that it leaves, and the measurement.
//!
//! Invariant: there is one run at a time. When its first process ends or its time is up, the init
//! kills every other process of the pid namespace. The run is over only when no child is left to
//! reap.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Failure, ResultExt, Step};
use crate::sys::child::{ChildOptions, Children, Outcome, Reaped, Rusage};
use crate::sys::landlock::{self, Ruleset};
use crate::sys::process;
use crate::wire::{Ids, KillReason, Measurement, Reply, StartRun, Strings, Times, WaitStatus};

use super::files;
use super::host::End;
use super::meter::{ProcessTable, RunGroup};
use super::null::NullDevice;
use super::steps::{AttachedFds, ContainerParts, child_steps};

/// A container's file of default variables for its runs.
const ENVIRONMENT: &str = "/.env";

/// How far a CPU time limit may be overrun, beside the delay of the kernel's figures.
const SLACK: Duration = Duration::from_millis(1);

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
    /// Opened for the first run whose CPU time no group counts.
    processes: Option<ProcessTable>,
    run: Option<Run>,
    /// Whether the last [`reap`](Self::reap) stopped early, so that ended children may be left.
    has_unreaped: bool,
}

struct Run {
    id: u64,
    /// When the init received the run, by the monotonic clock.
    received: Option<Duration>,
    start: Instant,
    times: Times,
    throttled: bool,
    /// When the CPU time is checked next. The run cannot use it up earlier.
    next_check: Option<Instant>,
    killed: Option<KillReason>,
    program: PathBuf,
    work_dir: Option<PathBuf>,
    ended: Option<Ended>,
    /// Why the init gave the run up. This is then its reply.
    abandoned: Option<Failure>,
    user: Duration,
    system: Duration,
    peak_bytes: u64,
}

/// How the first process ended.
struct Ended {
    status: WaitStatus,
    outcome: Outcome<Step>,
    /// Whether the processes that the program left have been killed.
    is_swept: bool,
}

impl Runner {
    /// `env` are variables that a run gets if neither it nor [`ENVIRONMENT`] sets them.
    pub(super) fn new(program: Ids, null: NullDevice, env: &Strings) -> Result<Self, Failure> {
        let mut default_env = default_environment()?;
        default_env.add_missing(env);
        Ok(Self {
            children: Children::new().step(Step::ResetInherited)?,
            program,
            null,
            has_landlock: landlock::is_supported(),
            default_env,
            group: None,
            processes: None,
            run: None,
            has_unreaped: false,
        })
    }

    /// Puts later runs into this group.
    pub(super) fn join(&mut self, group: RunGroup) {
        self.group = Some(group);
    }

    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Starts a program. The descriptors are closed here once the child has its own copies. Returns
    /// the process's pidfd if the run is to be announced.
    pub(super) fn start(&mut self, id: u64, request: StartRun, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
        let received = process::monotonic_time();
        let fds = AttachedFds::new(&request.fds, fds)?;
        let ruleset = if self.has_landlock { Ruleset::for_files(fds.iter()) } else { Ok(None) };
        let ruleset = ruleset.step(Step::RestrictFiles)?;

        let (program, work_dir) = (request.program.clone(), request.work_dir.clone());
        let (times, throttled, wants_pidfd) = (request.times, request.throttled, request.announce);
        let may_wait = throttled || fds.has_gate();
        let parts = ContainerParts {
            program: self.program,
            null: &self.null,
            default_env: &self.default_env,
            group: self.group.as_ref(),
            ruleset: ruleset.as_ref(),
        };
        let steps = child_steps(request, &fds, &parts)?;

        if let Some(group) = &mut self.group {
            group.start_counting()?;
        }
        let start = Instant::now();
        let group = self.group.as_ref().and_then(RunGroup::directory);
        let pidfd = self.children.start(steps, ChildOptions { group, may_wait, wants_pidfd }).step(Step::Clone)?;
        self.run = Some(Run {
            id,
            received,
            start,
            times,
            throttled,
            next_check: times.cpu.and_then(|limit| start.checked_add(limit / times.cpus.max(1))),
            killed: None,
            program,
            work_dir,
            ended: None,
            abandoned: None,
            user: Duration::ZERO,
            system: Duration::ZERO,
            peak_bytes: 0,
        });
        Ok(pidfd)
    }

    /// Kills the run with this id, if it is the current one. The first reason counts, and only if
    /// it came before the program's own end.
    pub(super) fn kill(&mut self, id: u64, reason: KillReason) -> Result<(), End> {
        if let Some(run) = self.run.as_mut().filter(|run| run.id == id) {
            if run.ended.is_none() {
                run.killed.get_or_insert(reason);
            }
            self.kill_all()?;
        }
        Ok(())
    }

    /// Kills the run that has just been started and makes this failure its reply.
    pub(super) fn abandon(&mut self, failure: Failure) -> Result<(), End> {
        let Some(run) = &mut self.run else { return Ok(()) };
        run.abandoned = Some(failure);
        let id = run.id;
        self.kill(id, KillReason::Request)
    }

    /// Kills every process but the init. The CPU rate goes first, or it would keep them from dying.
    fn kill_all(&self) -> Result<(), Failure> {
        self.lift_rate()?;
        process::kill_all_others().step(Step::Wait)
    }

    /// Lifts the CPU rate of the current run.
    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        match &self.group {
            Some(group) if self.run.as_ref().is_some_and(|run| run.throttled) => group.lift_rate(),
            _ => Ok(()),
        }
    }

    /// The time until [`enforce_times`](Self::enforce_times) has something to check. `None`:
    /// forever.
    pub(super) fn time_to_next_check(&self) -> Option<Duration> {
        let run = self.run.as_ref().filter(|run| run.is_alive())?;
        let next = run.wall_end().into_iter().chain(run.next_check).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Kills the run if it has used up its wall time or its CPU time.
    pub(super) fn enforce_times(&mut self) -> Result<(), End> {
        let Some(run) = self.run.as_ref().filter(|run| run.is_alive()) else { return Ok(()) };
        let (id, now) = (run.id, Instant::now());
        if run.wall_end().is_some_and(|end| now >= end) {
            return self.kill(id, KillReason::WallTime);
        }
        let Some(limit) = run.times.cpu.filter(|_| run.next_check.is_some_and(|check| now >= check)) else {
            return Ok(());
        };
        let used = self.cpu_time()?;
        if used >= limit {
            return self.kill(id, KillReason::CpuTime);
        }
        if let Some(run) = &mut self.run {
            run.next_check = now.checked_add((limit - used + SLACK) / run.times.cpus.max(1));
        }
        Ok(())
    }

    /// The CPU time that the run has used so far.
    fn cpu_time(&mut self) -> Result<Duration, Failure> {
        if let Some(nanos) = self.group.as_ref().map_or(Ok(None), RunGroup::cpu_nanos)? {
            return Ok(Duration::from_nanos(nanos));
        }
        let processes = match &self.processes {
            Some(processes) => processes,
            None => self.processes.insert(ProcessTable::open().step(Step::ReadProcesses)?),
        };
        let alive = processes.cpu_time().step(Step::ReadProcesses)?;
        let reaped = self.run.as_ref().map_or(Duration::ZERO, |run| run.user + run.system);
        Ok(alive + reaped)
    }

    /// Whether [`reap`](Self::reap) has to be called again without a further SIGCHLD.
    pub(super) fn has_unreaped(&self) -> bool {
        self.has_unreaped
    }

    /// Reaps children that have ended, up to [`REAPED_AT_ONCE`]. Returns the id and the reply of
    /// the run once it is over.
    pub(super) fn reap(&mut self) -> Result<Option<(u64, Reply)>, End> {
        self.has_unreaped = false;
        for _ in 0..REAPED_AT_ONCE {
            let reaped = self.children.reap().step(Step::Wait)?;
            let Some(run) = &mut self.run else {
                return Ok(None);
            };
            match reaped {
                Reaped::Program { status, usage, outcome } => {
                    run.add(usage);
                    run.ended = Some(Ended { status: WaitStatus(status), outcome, is_swept: false });
                }
                Reaped::Orphan(usage) => run.add(usage),
                // Kill before waiting: a traced zombie is released only by its tracer's death.
                Reaped::Alive if self.sweep()? => {}
                Reaped::Alive => return Ok(None),
                // Every process of the namespace descends from a child of pid 1, so none is left.
                Reaped::NoChild => {
                    let run = self.run.take().ok_or_else(|| End::Fatal("a run ended twice".into()))?;
                    return Ok(Some((run.id, run.into_reply(self.group.as_ref())?)));
                }
            }
        }
        // The orphans of a program that has ended may go on for as long as they are not killed.
        self.sweep()?;
        self.has_unreaped = true;
        Ok(None)
    }

    /// Kills what the program left, once it has ended. Returns false if there is nothing to do, or
    /// if it was done before.
    fn sweep(&mut self) -> Result<bool, Failure> {
        match self.run.as_mut().and_then(|run| run.ended.as_mut()) {
            Some(ended) if !ended.is_swept => {
                ended.is_swept = true;
                self.kill_all()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Run {
    fn is_alive(&self) -> bool {
        self.killed.is_none() && self.ended.is_none()
    }

    fn add(&mut self, usage: Rusage) {
        self.user += usage.user;
        self.system += usage.system;
        self.peak_bytes = self.peak_bytes.max(usage.peak_bytes);
    }

    fn wall_end(&self) -> Option<Instant> {
        self.times.wall.and_then(|limit| self.start.checked_add(limit))
    }

    fn into_reply(self, group: Option<&RunGroup>) -> Result<Reply, End> {
        if let Some(failure) = self.abandoned {
            return Ok(Reply::Failed(failure));
        }
        let Some(Ended { status, outcome: Outcome { failure, executed }, .. }) = self.ended else {
            return Err(End::Fatal("the init did not reap the program itself".into()));
        };
        if let Some((step, errno)) = failure {
            return Ok(Reply::Failed(self.failure_to_start(step, errno)));
        }
        let group = match group.map(RunGroup::figures).transpose() {
            Ok(figures) => figures,
            Err(failure) => return Ok(Reply::Failed(failure)),
        };
        let set_up = executed.zip(self.received).and_then(|(executed, received)| executed.checked_sub(received));
        Ok(Reply::Ended(Measurement {
            status,
            killed: self.killed,
            wall_us: micros(self.start.elapsed()),
            set_up_us: set_up.map(micros),
            user_us: micros(self.user),
            system_us: micros(self.system),
            peak_resident_bytes: self.peak_bytes,
            group,
        }))
    }

    fn failure_to_start(self, step: Step, errno: i32) -> Failure {
        let path = match step {
            Step::Exec => Some(self.program),
            Step::ChangeDirectory => self.work_dir,
            _ => None,
        };
        Failure { step, errno, path }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// The variables of [`ENVIRONMENT`], if the container has that file: one `KEY=VALUE` a line, the
/// value taken literally. Empty lines and comments (`#`) are skipped. Any other line is
/// an error that names the line.
fn default_environment() -> Result<Strings, Failure> {
    let mut variables = Strings::default();
    let content = match files::read(Path::new(ENVIRONMENT)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(variables),
        content => content.step_at(Step::ReadEnvironment, ENVIRONMENT)?,
    };
    for (number, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) || !line.contains(&b'=') || line.starts_with(b"=") {
            let place = format!("{ENVIRONMENT}:{}", number + 1);
            return Err(Failure::at(Step::ReadEnvironment, place, nix::Error::EINVAL));
        }
        variables.push(&[line]);
    }
    Ok(variables)
}
