//! One run: what the init knows of it from its start to its report.
//!
//! Invariant: a run ends for one reason. The first kill counts, and only if it came before the
//! program's own end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::{Failure, Step};
use crate::sys::child::{Outcome, Rusage};
use crate::sys::process;
use crate::wire::{KillReason, Measurement, Reply, StartRun, Times, WaitStatus};

use super::host::End;
use super::meter::RunGroup;

/// How far a CPU time limit may be overrun, beside the delay of the kernel's figures.
const SLACK: Duration = Duration::from_millis(1);

pub(super) struct Run {
    pub(super) id: u64,
    /// The program's pid, until the init has reaped it.
    pub(super) pid: Option<i32>,
    /// When the init received the run, by the monotonic clock.
    received: Option<Duration>,
    start: Instant,
    times: Times,
    pub(super) throttled: bool,
    /// When the CPU time is checked next. The run cannot use it up earlier.
    next_check: Option<Instant>,
    killed: Option<KillReason>,
    program: PathBuf,
    work_dir: Option<PathBuf>,
    pub(super) ended: Option<Ended>,
    /// Why the init gave the run up. This is then its reply.
    pub(super) abandoned: Option<Failure>,
    user: Duration,
    system: Duration,
    peak_bytes: u64,
}

/// How the first process ended.
pub(super) struct Ended {
    pub(super) status: WaitStatus,
    pub(super) outcome: Outcome<Step>,
    /// Whether the processes that the program left have been killed.
    pub(super) is_swept: bool,
}

impl Run {
    /// A run that has just been received.
    pub(super) fn new(id: u64, request: &StartRun) -> Self {
        Self {
            id,
            pid: None,
            received: process::monotonic_time(),
            start: Instant::now(),
            times: request.times,
            throttled: request.throttled,
            next_check: None,
            killed: None,
            program: request.program.clone(),
            work_dir: request.work_dir.clone(),
            ended: None,
            abandoned: None,
            user: Duration::ZERO,
            system: Duration::ZERO,
            peak_bytes: 0,
        }
    }

    /// Starts the clocks, just before the clone of the program.
    pub(super) fn start_clocks(&mut self) {
        self.start = Instant::now();
        self.next_check = self.times.cpu.and_then(|limit| self.start.checked_add(limit / self.times.cpus.max(1)));
    }

    /// Whether the program has not ended, and nothing has killed it.
    pub(super) fn is_alive(&self) -> bool {
        self.killed.is_none() && self.ended.is_none() && self.abandoned.is_none()
    }

    /// Notes why the run is being killed.
    pub(super) fn note_kill(&mut self, reason: KillReason) {
        if self.ended.is_none() {
            self.killed.get_or_insert(reason);
        }
    }

    /// Notes the end of the program, which has been reaped.
    pub(super) fn end(&mut self, usage: Rusage, ended: Ended) {
        self.add(usage);
        self.pid = None;
        self.ended = Some(ended);
    }

    pub(super) fn add(&mut self, usage: Rusage) {
        self.user += usage.user;
        self.system += usage.system;
        self.peak_bytes = self.peak_bytes.max(usage.peak_bytes);
    }

    /// The CPU time of the processes that have been reaped.
    pub(super) fn reaped_cpu_time(&self) -> Duration {
        self.user + self.system
    }

    /// When [`overrun`](Self::overrun) has something to check. `None`: never.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.wall_end().filter(|_| self.is_alive()).into_iter().chain(self.next_check.filter(|_| self.is_alive())).min()
    }

    /// The time that the run has used up, if it has. Asks for the CPU time when it may be used up.
    pub(super) fn overrun(
        &mut self,
        cpu_time: impl FnOnce(&Self) -> Result<Duration, Failure>,
    ) -> Result<Option<KillReason>, Failure> {
        let now = Instant::now();
        if self.wall_end().is_some_and(|end| now >= end) {
            return Ok(Some(KillReason::WallTime));
        }
        let Some(limit) = self.times.cpu.filter(|_| self.next_check.is_some_and(|check| now >= check)) else {
            return Ok(None);
        };
        let used = cpu_time(self)?;
        if used >= limit {
            return Ok(Some(KillReason::CpuTime));
        }
        self.next_check = now.checked_add((limit - used + SLACK) / self.times.cpus.max(1));
        Ok(None)
    }

    fn wall_end(&self) -> Option<Instant> {
        self.times.wall.and_then(|limit| self.start.checked_add(limit))
    }

    /// The reply to a run of which no process is left.
    pub(super) fn into_reply(self, group: Option<&RunGroup>) -> Result<Reply, End> {
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
