//! Validators of a package: programs that judge an output.
//!
//! Invariant: a validator runs in a container, with limits, and judges by its exit code: 42
//! accepts, 43 rejects, and anything else is a failure of the validator.

use std::fs;
use std::path::Path;

use cellblock::report::Status;
use cellblock::{Command, Container, Report};

use super::failure::Failure;
use super::limits::{self, ProblemLimits};
use super::program::Program;
use super::result::{CaseResult, CaseVerdict};
use super::test_data::Case;
use super::text::{last_line, lossy};

const FEEDBACK: &str = "/tmp/feedback/";

/// How the outputs of a problem are judged, with the programs built.
pub enum Validator {
    Default,
    Custom(Vec<Program>),
    Interactive(Program),
}

/// The verdict of a validator, with its message.
pub enum ValidatorVerdict {
    Accepted(String),
    Rejected(String),
    /// The validator did not work.
    Failed(String),
}

impl ValidatorVerdict {
    /// Adds this to the result of a run that was good so far.
    pub fn apply(self, result: CaseResult) -> CaseResult {
        let (verdict, message) = match self {
            Self::Accepted(message) => (result.verdict, message),
            Self::Rejected(message) => (CaseVerdict::WrongAnswer, message),
            Self::Failed(message) => (CaseVerdict::JudgeError, message),
        };
        CaseResult { verdict, message, ..result }
    }

    /// Reads the verdict from how a validator ended and from its feedback directory.
    pub async fn read(container: &Container, report: &Report, stderr: &[u8]) -> Self {
        let message = container.read(FEEDBACK.to_owned() + "judgemessage.txt", 64 << 10).await;
        let message = message.map(|bytes| lossy(&bytes).trim().to_owned()).unwrap_or_default();
        match report.status {
            Status::Exited(42) => Self::Accepted(message),
            Status::Exited(43) => Self::Rejected(message),
            status => {
                let why = format!("the validator {status} ({}), and not with 42 or 43", report.verdict());
                Self::Failed(format!("{why}: {message}{}", last_line(stderr)))
            }
        }
    }
}

/// Writes a validator and a case into a container, with an empty feedback directory. Returns the
/// command.
pub async fn install(
    container: &Container,
    validator: &Program,
    case: &Case,
    limits: &ProblemLimits,
) -> Result<Command, Failure> {
    let mut command = validator.install(container).await?;
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let answer = case.answer.as_deref().map_or_else(|| Ok(Vec::new()), read)?;
    container.file("/tmp/case/input").mode(0o444).write(read(&case.input)?).await?;
    container.file("/tmp/case/answer").mode(0o444).write(answer).await?;
    // A file makes its directory, which stays when the file is deleted.
    container.write(FEEDBACK.to_owned() + ".made", "").await?;
    container.delete(FEEDBACK.to_owned() + ".made").await?;
    command.args(["/tmp/case/input", "/tmp/case/answer", FEEDBACK]).args(&case.validator_args);
    command.limits(limits::validator(limits));
    Ok(command)
}
