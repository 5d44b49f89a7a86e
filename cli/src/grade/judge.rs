//! One submission on one case: run, and validated.
//!
//! Invariant: a verdict other than [`Verdict::JudgeError`] is the submission's own. What fails for the machine's reasons is
//! tried once more in another container before it is called that.

use std::fs::File;
use std::path::Path;

use cellblock::{Command, Container, Report, Stdio, report::Status};

use super::bench::{Activity, Bench, twice};
use super::compare::Flags;
use super::limits::{self, Clock};
use super::package::{Case, Limits};
use super::program::{Program, put, read_files, text};
use super::verdict::{CaseResult, Verdict};
use super::{Failure, interact};

/// Judges cases of one problem.
pub struct Judge<'a> {
    pub bench: &'a Bench,
    pub limits: &'a Limits,
    pub validator: Validator,
}

/// What validates, built.
pub enum Validator {
    Default,
    Custom(Vec<Program>),
    Interactive(Program),
}

/// What a validator says of an output.
pub enum Judgement {
    Right(String),
    Wrong(String),
    /// It did not operate properly.
    Broken(String),
}

impl Judge<'_> {
    /// Judges a submission on a case.
    pub async fn case(&self, submission: &Program, case: &Case, clock: Clock, label: &str) -> CaseResult {
        let judged = twice(async || match &self.validator {
            Validator::Interactive(validator) => interact::case(self, submission, validator, case, clock, label).await,
            _ => self.run_and_validate(submission, case, clock, label).await,
        });
        judged.await.unwrap_or_else(CaseResult::judge_error)
    }

    /// Where no control group counts what is used, a limit counts what is reserved, which of a virtual machine is far more:
    /// then its own limit on its heap is all there is.
    pub fn memory(&self, submission: &Program) -> u64 {
        if submission.limits_itself && !self.bench.counts_memory { u64::MAX } else { self.limits.memory }
    }

    async fn run_and_validate(
        &self,
        submission: &Program,
        case: &Case,
        clock: Clock,
        label: &str,
    ) -> Result<CaseResult, Failure> {
        let seat = self.bench.take(Activity::Run, label).await?;
        let mut command = prepare(&seat, submission, case).await?;
        command.stdin(File::open(&case.input)?).limits(limits::run(self.limits, clock, self.memory(submission)));
        command.capture_bytes(self.limits.output as usize);
        let output = seat.output(&command).await?;
        drop(seat);
        let result = result_of(&output.report, clock, &output.stderr);
        if result.verdict != Verdict::Accepted {
            return Ok(result);
        }
        let judgement = match &self.validator {
            Validator::Custom(validators) => self.ask(validators, case, output.stdout, label).await?,
            _ => compare(case, output.stdout).await?,
        };
        Ok(judged(result, judgement))
    }

    /// Asks every validator; the first that does not accept has the word.
    async fn ask(
        &self,
        validators: &[Program],
        case: &Case,
        output: Vec<u8>,
        label: &str,
    ) -> Result<Judgement, Failure> {
        let mut words = String::new();
        for validator in validators {
            let seat = self.bench.take(Activity::Validate, label).await?;
            let mut command = prepare_validator(&seat, validator, case, self.limits).await?;
            command.stdin(Stdio::bytes(output.clone()));
            let answer = seat.output(&command).await?;
            match judgement(&seat, &answer.report, &answer.stderr).await {
                Judgement::Right(said) => words.push_str(&said),
                other => return Ok(other),
            }
        }
        Ok(Judgement::Right(words))
    }
}

/// Puts a submission and what its case gives it into a container.
pub async fn prepare(container: &Container, submission: &Program, case: &Case) -> Result<Command, Failure> {
    let mut command = submission.install(container).await?;
    if let Some(dir) = &case.files {
        let mut files = Vec::new();
        read_files(dir, Path::new(""), &mut files)?;
        put(container, "/w", &files).await?;
    }
    command.args(&case.args);
    Ok(command)
}

/// Puts a validator into a container, with the case and a feedback directory.
pub async fn prepare_validator(
    container: &Container,
    validator: &Program,
    case: &Case,
    limits: &Limits,
) -> Result<Command, Failure> {
    let mut command = validator.install(container).await?;
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let answer = case.answer.as_deref().map_or_else(|| Ok(Vec::new()), read)?;
    container.write("/tmp/case/input", read(&case.input)?, 0o444).await?;
    container.write("/tmp/case/answer", answer, 0o444).await?;
    // The directory is what is wanted, and it comes with a file.
    container.write(FEEDBACK.to_owned() + ".made", "", 0o644).await?;
    container.delete(FEEDBACK.to_owned() + ".made").await?;
    command.args(["/tmp/case/input", "/tmp/case/answer", FEEDBACK]).args(&case.validator_args);
    command.limits(limits::validate(limits));
    Ok(command)
}

const FEEDBACK: &str = "/tmp/feedback/";

/// What a validator's end says, with what it left in its feedback directory.
pub async fn judgement(container: &Container, report: &Report, stderr: &[u8]) -> Judgement {
    let message = container.read(FEEDBACK.to_owned() + "judgemessage.txt", 64 << 10).await;
    let message = message.map(|bytes| text(&bytes).trim().to_owned()).unwrap_or_default();
    match report.status {
        Status::Exited(42) => Judgement::Right(message),
        Status::Exited(43) => Judgement::Wrong(message),
        status => {
            let why = format!("the validator {status} ({}), and not with 42 or 43", report.verdict());
            Judgement::Broken(format!("{why}: {message}{}", last_line(stderr)))
        }
    }
}

/// What a run was worth by itself, before anyone has looked at its output.
pub fn result_of(report: &Report, clock: Clock, stderr: &[u8]) -> CaseResult {
    use cellblock::Verdict as Run;
    let cpu = report.usage.cpu.unwrap_or_default();
    let verdict = match report.verdict() {
        Run::Memory => Verdict::MemoryLimitExceeded,
        Run::Output => Verdict::OutputLimitExceeded,
        Run::CpuTime | Run::WallTime => Verdict::TimeLimitExceeded,
        _ if cpu > clock.limit => Verdict::TimeLimitExceeded,
        Run::Ok => Verdict::Accepted,
        _ => Verdict::RunTimeError,
    };
    let message = match verdict {
        Verdict::Accepted => String::new(),
        Verdict::RunTimeError => format!("{}; {}", report.status, last_line(stderr)).trim_end_matches("; ").into(),
        Verdict::TimeLimitExceeded if report.verdict() == Run::WallTime => "it waited for too long".into(),
        Verdict::TimeLimitExceeded => format!("more than {} s of CPU time", limits::seconds(clock.limit)),
        Verdict::MemoryLimitExceeded => "more memory than it may have".into(),
        _ => "more output than it may write".into(),
    };
    CaseResult {
        verdict,
        cpu_us: micros(cpu),
        wall_us: micros(report.usage.wall.unwrap_or_default()),
        memory_bytes: report.usage.memory_peak_bytes,
        message,
    }
}

/// A good run's result, as the validator sees it.
pub fn judged(result: CaseResult, judgement: Judgement) -> CaseResult {
    let (verdict, message) = match judgement {
        Judgement::Right(message) => (result.verdict, message),
        Judgement::Wrong(message) => (Verdict::WrongAnswer, message),
        Judgement::Broken(message) => (Verdict::JudgeError, message),
    };
    CaseResult { verdict, message, ..result }
}

async fn compare(case: &Case, output: Vec<u8>) -> Result<Judgement, Failure> {
    let (answer, flags) = (case.answer.clone(), Flags::parse(&case.validator_args));
    // A large output is a while's work, and others have answers to wait for.
    let compared = tokio::task::spawn_blocking(move || {
        let answer = answer.map_or_else(|| Ok(Vec::new()), std::fs::read)?;
        Ok::<_, std::io::Error>(match flags {
            Ok(flags) => {
                flags.compare(&output, &answer).map_or_else(Judgement::Wrong, |()| Judgement::Right("".into()))
            }
            Err(wrong) => Judgement::Broken(wrong),
        })
    });
    Ok(compared.await??)
}

/// The last line of a text that says anything: of a Python traceback, the exception.
fn last_line(bytes: &[u8]) -> String {
    let text = text(&bytes[bytes.len().saturating_sub(4 << 10)..]);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(200).collect()
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
