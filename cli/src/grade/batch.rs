//! A submission that reads an input and writes an output, which is judged when it has ended.

use cellblock::{ErrorKind, Stdio};

use super::case_run::{CaseRun, run_result};
use super::compare::Flags;
use super::failure::Failure;
use super::program::Program;
use super::result::{CaseResult, CaseVerdict};
use super::test_data::Case;
use super::validator::{self, ValidatorVerdict};
use super::workers::Activity;

/// Judges a submission by the validators, or by the default comparison if there are none.
pub async fn judge(run: CaseRun<'_>, validators: &[Program]) -> Result<CaseResult, Failure> {
    let container = run.workers.acquire(Activity::Run, run.label).await?;
    let mut command = run.install(&container).await?;
    // A sealed copy for this run alone. A descriptor of the file would let the submission change
    // its mode and attributes, and learn its path.
    let input = run.case.input.clone();
    let input = tokio::task::spawn_blocking(move || std::fs::read(input)).await??;
    command.stdin(Stdio::bytes(input)).capture_bytes(run.limits.output as usize);
    let output = match container.output(&command).await {
        // The built program cannot be executed: it needs more memory than its limit, for example.
        Err(error) if error.kind() == ErrorKind::Exec => return Ok(CaseResult::run_time_error(error)),
        output => output?,
    };
    drop(container);
    let result = run_result(&output.report, run.time, &output.stderr);
    if result.verdict != CaseVerdict::Accepted {
        return Ok(result);
    }
    let verdict = match validators {
        [] => compare(run.case, output.stdout).await?,
        validators => validate(run, validators, output.stdout).await?,
    };
    Ok(verdict.apply(result))
}

/// Runs the validators one after another, up to the first that does not accept.
async fn validate(run: CaseRun<'_>, validators: &[Program], output: Vec<u8>) -> Result<ValidatorVerdict, Failure> {
    let mut messages = String::new();
    for validator in validators {
        let container = run.workers.acquire(Activity::Validate, run.label).await?;
        let mut command = validator::install(&container, validator, run.case, run.limits).await?;
        command.stdin(Stdio::bytes(output.clone()));
        let ended = container.output(&command).await?;
        match ValidatorVerdict::read(&container, &ended.report, &ended.stderr).await {
            ValidatorVerdict::Accepted(message) => messages.push_str(&message),
            other => return Ok(other),
        }
    }
    Ok(ValidatorVerdict::Accepted(messages))
}

async fn compare(case: &Case, output: Vec<u8>) -> Result<ValidatorVerdict, Failure> {
    let (answer, flags) = (case.answer.clone(), Flags::parse(&case.validator_args));
    // A large output takes long, and this thread serves other runs.
    let compared = tokio::task::spawn_blocking(move || {
        let answer = answer.map_or_else(|| Ok(Vec::new()), std::fs::read)?;
        Ok::<_, std::io::Error>(match flags.map(|flags| flags.compare(&output, &answer)) {
            Ok(Ok(())) => ValidatorVerdict::Accepted(String::new()),
            Ok(Err(difference)) => ValidatorVerdict::Rejected(difference),
            Err(wrong_flag) => ValidatorVerdict::Failed(wrong_flag),
        })
    });
    Ok(compared.await??)
}
