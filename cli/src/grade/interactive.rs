//! A submission that talks to a validator: two programs in two containers, with crossed streams.
//!
//! Invariant: it is always known which program ended first. The host keeps a copy of the
//! submission's ends of both pipes until the submission has ended, so the validator cannot see the
//! submission's end before the host does.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::time::Duration;

use cellblock::process::OutputPipe;
use cellblock::report::Status;
use cellblock::{Command, Container, Error, Process, Report, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::case_run::{CaseRun, run_result};
use super::failure::Failure;
use super::program::Program;
use super::result::{CaseResult, CaseVerdict};
use super::validator::{self, ValidatorVerdict};

/// How much later the host may learn of the validator's end, if that came before the submission's.
const GRACE: Duration = Duration::from_millis(100);
/// How much of a program's standard error is kept.
const MAX_STDERR: usize = 256 << 10;

/// Judges a submission on a case of an interactive problem.
pub async fn judge(run: CaseRun<'_>, validator: &Program) -> Result<CaseResult, Failure> {
    let (own, other) = run.workers.acquire_pair(run.label).await?;
    let mut submission = run.install(&own).await?;
    let mut interactor = validator::install(&other, validator, run.case, run.limits).await?;

    let (submission_stdin, interactor_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (interactor_stdin, submission_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let kept = KeptEnds { stdin: submission_stdin.try_clone()?, stdout: submission_stdout.try_clone()? };
    submission.stdin(submission_stdin).stdout(submission_stdout).stderr(Stdio::piped());
    interactor.stdin(interactor_stdin).stdout(interactor_stdout).stderr(Stdio::piped());
    let mut submission = Peer::start(&own, submission).await?;
    let mut interactor = Peer::start(&other, interactor).await?;
    let ends = converse(&mut submission, &mut interactor, kept).await?;

    let result = run_result(&ends.submission, run.time, &submission.stderr);
    let verdict = ValidatorVerdict::read(&other, &ends.validator, &interactor.stderr).await;
    Ok(match verdict {
        // The validator ended the talk, and any later failure of the submission follows from that.
        ValidatorVerdict::Rejected(message) if ends.is_validator_first => {
            CaseResult { verdict: CaseVerdict::WrongAnswer, message, ..result }
        }
        failed @ ValidatorVerdict::Failed(_) => failed.apply(result),
        verdict if result.verdict == CaseVerdict::Accepted => verdict.apply(result),
        _ => result,
    })
}

/// The host's copies of the submission's ends of the pipes.
struct KeptEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
}

/// How both programs ended.
struct Ends {
    submission: Report,
    validator: Report,
    is_validator_first: bool,
}

/// Waits for both programs.
async fn converse(submission: &mut Peer, validator: &mut Peer, kept: KeptEnds) -> Result<Ends, Failure> {
    tokio::select! {
        // If both have ended, the validator did so without having seen the submission's end.
        biased;
        report = validator.wait() => {
            let validator = report?;
            drop(kept);
            if validator.status != Status::Exited(42) {
                submission.process.start_kill();
            }
            Ok(Ends { submission: submission.wait().await?, validator, is_validator_first: true })
        }
        report = submission.wait() => wait_for_validator(report?, validator, kept).await,
    }
}

/// Waits for the validator after the submission has ended.
async fn wait_for_validator(submission: Report, validator: &mut Peer, kept: KeptEnds) -> Result<Ends, Failure> {
    // The submission may have failed because the validator had ended. The validator has not seen
    // the submission's end yet, so an end within the grace period came first.
    if !submission.status.success() {
        if let Ok(validator) = tokio::time::timeout(GRACE, validator.wait()).await {
            return Ok(Ends { submission, validator: validator?, is_validator_first: true });
        }
    }
    drop(kept.stdout);
    let validator = tokio::select! {
        report = validator.wait() => report?,
        never = drain(kept.stdin) => match never? {},
    };
    Ok(Ends { submission, validator, is_validator_first: false })
}

/// Reads what the validator still writes to the submission, so that it neither blocks nor gets
/// `SIGPIPE`.
async fn drain(pipe: OwnedFd) -> Result<Infallible, Failure> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    while pipe.read(&mut [0; 4096]).await? > 0 {}
    std::future::pending().await
}

/// One of the two programs, and its standard error.
struct Peer {
    process: Process,
    pipe: Option<OutputPipe>,
    stderr: Vec<u8>,
}

impl Peer {
    /// Takes the command by value, because its copies of the streams must not outlive the start.
    async fn start(container: &Container, command: Command) -> Result<Self, Error> {
        let mut process = container.spawn(&command).await?;
        let pipe = process.stderr.take();
        Ok(Self { process, pipe, stderr: Vec::new() })
    }

    /// Waits for the end. It may be called again after it was canceled.
    async fn wait(&mut self) -> Result<Report, Failure> {
        let Self { process, pipe, stderr } = self;
        let (read, report) = tokio::join!(read_stderr(pipe, stderr), process.wait());
        read?;
        Ok(report?)
    }
}

/// Reads to the end of the pipe and keeps the first bytes.
async fn read_stderr(pipe: &mut Option<OutputPipe>, kept: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut part = [0; 4096];
    loop {
        match pipe.read(&mut part).await? {
            0 => return Ok(()),
            read if kept.len() < MAX_STDERR => kept.extend_from_slice(&part[..read]),
            _ => {}
        }
    }
}
