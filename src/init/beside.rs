//! A run beside the main one: a program in a pid namespace of its own.
//!
//! Invariant: the run is over when its reaper has been reaped, because the kernel lets the init
//! reap the pid 1 of a pid namespace only once no other process is in the namespace.

use std::time::{Duration, Instant};

use crate::error::{Failure, ResultExt, Step};
use crate::sys::reaper;
use crate::wire::{KillReason, Reply};

use super::host::End;
use super::meter::{Namespace, ProcessTable, RunGroup, Scope, cpu_time};
use super::run::Run;

/// How long a reaper that was told to end may take before it is killed. A program of the main run
/// may have the reaper's user, and stop it.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Beside {
    pub(super) run: Run,
    pub(super) group: Option<RunGroup>,
    /// `None` if the program was not started, or if the container has no proc.
    pub(super) namespace: Option<Namespace>,
    /// The pid of the reaper, which has not been reaped.
    pub(super) reaper: i32,
    end: Stage,
}

/// How far the end of the run is.
enum Stage {
    Running,
    /// The reaper was told to end. It is killed at this time.
    Told(Instant),
    /// The reaper was killed.
    Killed,
}

impl Beside {
    pub(super) fn new(run: Run, group: Option<RunGroup>, reaper: i32) -> Self {
        Self { run, group, namespace: None, reaper, end: Stage::Running }
    }

    /// Notes that the main run is ending: everything in the container is being killed.
    pub(super) fn note_end_of_main(&mut self) {
        self.run.note_kill(KillReason::MainEnded);
        self.end = Stage::Killed;
    }

    /// Kills every process of the run. The CPU rate goes first, or it would keep them from dying.
    pub(super) fn kill(&mut self, reason: KillReason) -> Result<(), Failure> {
        self.run.note_kill(reason);
        self.sweep()
    }

    /// Has the reaper kill every other process of the run, and end.
    pub(super) fn sweep(&mut self) -> Result<(), Failure> {
        if let Stage::Running = self.end {
            self.lift_rate()?;
            reaper::tell(self.reaper).step(Step::Wait)?;
            self.end = Stage::Told(Instant::now() + PATIENCE);
        }
        Ok(())
    }

    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        match &self.group {
            Some(group) if self.run.throttled => group.lift_rate(),
            _ => Ok(()),
        }
    }

    /// When [`enforce_times`](Self::enforce_times) has something to check. `None`: never.
    pub(super) fn next_check(&self) -> Option<Instant> {
        match self.end {
            Stage::Running => self.run.next_check(),
            Stage::Told(end) => Some(end),
            Stage::Killed => None,
        }
    }

    /// Kills the run if it has used up its wall time or its CPU time, and the reaper if it does not
    /// end.
    pub(super) fn enforce_times(&mut self, processes: &mut Option<ProcessTable>) -> Result<(), Failure> {
        match self.end {
            Stage::Running if self.run.is_alive() => {
                let scope = Scope::Beside { namespace: self.namespace, reaper: self.reaper };
                let cpu_time = |run: &Run| cpu_time(run.reaped_cpu_time(), self.group.as_ref(), processes, scope);
                match self.run.overrun(cpu_time)? {
                    Some(reason) => self.kill(reason),
                    None => Ok(()),
                }
            }
            Stage::Told(end) if Instant::now() >= end => {
                self.end = Stage::Killed;
                reaper::kill_reaper(self.reaper).step(Step::Wait)
            }
            Stage::Running | Stage::Told(_) | Stage::Killed => Ok(()),
        }
    }

    /// The reply, once the reaper has been reaped.
    pub(super) fn into_reply(self) -> Result<(u64, Reply), End> {
        let id = self.run.id;
        Ok((id, self.run.into_reply(self.group.as_ref())?))
    }
}
