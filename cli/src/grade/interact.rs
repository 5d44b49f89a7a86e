//! A submission that talks to a validator: two programs in two containers, their streams crossed.
//!
//! Invariant: whoever ended first is known for certain. The host keeps a copy of the submission's ends of both pipes until
//! the submission is over, so the validator cannot see that it has gone before the host does.

use std::os::fd::OwnedFd;
use std::time::Duration;

use cellblock::{Command, Container, Error, Process, Report, Stdio, process::OutputPipe};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::Failure;
use super::judge::{Judge, Judgement, judged, judgement, prepare, prepare_validator, result_of};
use super::limits::{self, Clock};
use super::package::Case;
use super::program::Program;
use super::verdict::{CaseResult, Verdict};

/// Judges a submission on a case of an interactive problem.
pub async fn case(
    judge: &Judge<'_>,
    submission: &Program,
    validator: &Program,
    case: &Case,
    clock: Clock,
    label: &str,
) -> Result<CaseResult, Failure> {
    let (ours, theirs) = judge.bench.take_two(label).await?;
    let mut solution = prepare(&ours, submission, case).await?;
    let mut interactor = prepare_validator(&theirs, validator, case, judge.limits).await?;
    solution.limits(limits::run(judge.limits, clock, judge.memory(submission)));

    let (heard, says) = pipe2(OFlag::O_CLOEXEC)?;
    let (hears, said) = pipe2(OFlag::O_CLOEXEC)?;
    let kept = (heard.try_clone()?, said.try_clone()?);
    solution.stdin(heard).stdout(said).stderr(Stdio::piped());
    interactor.stdin(hears).stdout(says).stderr(Stdio::piped());
    let (mut solution, mut interactor) = (Side::start(&ours, solution).await?, Side::start(&theirs, interactor).await?);
    let (ours_ended, theirs_ended, validator_was_first) = converse(&mut solution, &mut interactor, kept).await?;

    let result = result_of(&ours_ended, clock, &solution.errors);
    Ok(match judgement(&theirs, &theirs_ended, &interactor.errors).await {
        // It had heard enough, and what became of the submission then was its doing.
        Judgement::Wrong(why) if validator_was_first => {
            CaseResult { verdict: Verdict::WrongAnswer, message: why, ..result }
        }
        broken @ Judgement::Broken(_) => judged(result, broken),
        judgement if result.verdict == Verdict::Accepted => judged(result, judgement),
        _ => result,
    })
}

/// How much later than the submission's the validator's end may become known, where that was first.
const GRACE: Duration = Duration::from_millis(100);

/// Waits for both; says how each ended, and whether the validator did first.
async fn converse(
    solution: &mut Side,
    interactor: &mut Side,
    (heard, said): (OwnedFd, OwnedFd),
) -> Result<(Report, Report, bool), Failure> {
    tokio::select! {
        // Where both have ended, the validator did so without having seen the other's end.
        biased;
        theirs = interactor.wait() => {
            let theirs = theirs?;
            drop((heard, said));
            if theirs.status != cellblock::report::Status::Exited(42) {
                solution.process.start_kill();
            }
            Ok((solution.wait().await?, theirs, true))
        }
        ours = solution.wait() => {
            let ours = ours?;
            // It may have failed because the validator had gone: whatever that says now, it says without having seen this end.
            if !ours.status.success() {
                if let Ok(theirs) = tokio::time::timeout(GRACE, interactor.wait()).await {
                    return Ok((ours, theirs?, true));
                }
            }
            drop(said);
            let theirs = tokio::select! {
                theirs = interactor.wait() => theirs?,
                never = swallow(heard) => match never? {},
            };
            Ok((ours, theirs, false))
        }
    }
}

/// Reads what the validator still says to a submission that has gone, so that it neither waits nor breaks a pipe.
async fn swallow(heard: OwnedFd) -> Result<std::convert::Infallible, Failure> {
    let mut heard = pipe::Receiver::from_owned_fd(heard)?;
    while heard.read(&mut [0; 4096]).await? > 0 {}
    std::future::pending().await
}

/// One of the two programs, and what it writes to standard error.
struct Side {
    process: Process,
    stderr: Option<OutputPipe>,
    errors: Vec<u8>,
}

impl Side {
    /// Takes the command, whose copies of the streams must not outlive the start.
    async fn start(container: &Container, command: Command) -> Result<Self, Error> {
        let mut process = container.spawn(&command).await?;
        let stderr = process.stderr.take();
        Ok(Self { process, stderr, errors: Vec::new() })
    }

    /// Waits for its end, and may be called again where it was dropped before.
    async fn wait(&mut self) -> Result<Report, Failure> {
        let Self { process, stderr, errors } = self;
        let listen = async {
            let mut part = [0; 4096];
            while let Some(pipe) = stderr {
                match pipe.read(&mut part).await? {
                    0 => break,
                    read if errors.len() < MAX_ERRORS => errors.extend_from_slice(&part[..read]),
                    _ => {}
                }
            }
            Ok::<_, Failure>(())
        };
        let (listened, report) = tokio::join!(listen, process.wait());
        listened?;
        Ok(report?)
    }
}

/// The last of its words are wanted, but not all that a program may write.
const MAX_ERRORS: usize = 256 << 10;
