//! One run of a submission on one case: how it starts, and what its report says.
//!
//! Invariant: a verdict other than [`CaseVerdict::JudgeError`] is caused by the submission.

use std::time::Duration;

use cellblock::{Command, Container, Report, Verdict};

use super::failure::Failure;
use super::files::{Origin, ProgramFile};
use super::limits::{self, ProblemLimits, TimeLimit};
use super::program::{Program, write_files};
use super::result::{CaseResult, CaseVerdict};
use super::test_data::Case;
use super::text::{last_line, seconds};
use super::workers::Workers;

/// A submission, a case, and all that a run of one on the other needs.
#[derive(Clone, Copy)]
pub struct CaseRun<'a> {
    pub workers: &'a Workers,
    pub limits: &'a ProblemLimits,
    pub submission: &'a Program,
    pub case: &'a Case,
    pub time: TimeLimit,
    pub label: &'a str,
}

impl CaseRun<'_> {
    /// Writes the submission and the files of the case into a container. Returns the command.
    pub async fn install(&self, container: &Container) -> Result<Command, Failure> {
        let mut command = self.submission.install(container).await?;
        if let Some(dir) = &self.case.files {
            write_files(container, "/w", &ProgramFile::read_all(dir, Origin::Package)?).await?;
        }
        command.args(&self.case.args).limits(limits::submission(self.limits, self.time, self.memory()));
        Ok(command)
    }

    /// The limit of memory. Without a control group it would count reserved memory, of which a
    /// virtual machine has far more than it uses. Then only the machine's own limit of its heap
    /// holds.
    fn memory(&self) -> u64 {
        let is_unlimited = self.submission.limits_its_heap && !self.workers.has_memory_groups;
        if is_unlimited { u64::MAX } else { self.limits.memory }
    }
}

/// The result of a run before its output is judged.
pub fn run_result(report: &Report, time: TimeLimit, stderr: &[u8]) -> CaseResult {
    let cpu = report.usage.cpu.unwrap_or_default();
    let verdict = match report.verdict() {
        Verdict::Memory => CaseVerdict::MemoryLimitExceeded,
        Verdict::Output => CaseVerdict::OutputLimitExceeded,
        Verdict::CpuTime | Verdict::WallTime => CaseVerdict::TimeLimitExceeded,
        _ if cpu > time.limit => CaseVerdict::TimeLimitExceeded,
        Verdict::Ok => CaseVerdict::Accepted,
        _ => CaseVerdict::RunTimeError,
    };
    let message = match verdict {
        CaseVerdict::Accepted => String::new(),
        CaseVerdict::RunTimeError => format!("{}; {}", report.status, last_line(stderr)).trim_end_matches("; ").into(),
        CaseVerdict::TimeLimitExceeded if report.verdict() == Verdict::WallTime => "it waited for too long".into(),
        CaseVerdict::TimeLimitExceeded => format!("more than {} s of CPU time", seconds(time.limit)),
        CaseVerdict::MemoryLimitExceeded => "more memory than its limit".into(),
        _ => "more output than its limit".into(),
    };
    CaseResult {
        verdict,
        cpu_us: micros(cpu),
        wall_us: micros(report.usage.wall.unwrap_or_default()),
        memory_bytes: report.usage.memory_peak_bytes,
        message,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
