//! The result of a case, and of a submission on all its cases.
//!
//! Invariant: whether a submission is as expected depends only on the verdicts and messages of its
//! cases, and the JSON has all of them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The verdict of a submission on a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    Accepted,
    WrongAnswer,
    TimeLimitExceeded,
    MemoryLimitExceeded,
    OutputLimitExceeded,
    RunTimeError,
    /// The judge failed, not the submission: a validator crashed, or a container was lost twice.
    JudgeError,
}

impl CaseVerdict {
    /// Its usual abbreviation.
    pub fn abbreviation(self) -> &'static str {
        match self {
            Self::Accepted => "AC",
            Self::WrongAnswer => "WA",
            Self::TimeLimitExceeded => "TLE",
            Self::MemoryLimitExceeded => "MLE",
            Self::OutputLimitExceeded => "OLE",
            Self::RunTimeError => "RTE",
            Self::JudgeError => "JE",
        }
    }

    /// The outcome that it counts as. A program that exceeds a limit of memory or output has
    /// crashed.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Accepted => Some(Outcome::Ac),
            Self::WrongAnswer => Some(Outcome::Wa),
            Self::TimeLimitExceeded => Some(Outcome::Tle),
            Self::MemoryLimitExceeded | Self::OutputLimitExceeded | Self::RunTimeError => Some(Outcome::Rte),
            Self::JudgeError => None,
        }
    }
}

/// The four outcomes of the package format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    Ac,
    Wa,
    Tle,
    Rte,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The result of one run of a submission on one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    pub verdict: CaseVerdict,
    pub cpu_us: u64,
    pub wall_us: u64,
    pub memory_bytes: Option<u64>,
    /// The reason, from the comparison, the validator's `judgemessage.txt`, or the program's
    /// standard error.
    pub message: String,
}

impl CaseResult {
    /// A failure of the judge, without figures.
    pub fn judge_error(message: impl fmt::Display) -> Self {
        let (cpu_us, wall_us, memory_bytes) = (0, 0, None);
        Self { verdict: CaseVerdict::JudgeError, cpu_us, wall_us, memory_bytes, message: message.to_string() }
    }

    /// A program that cannot be executed, without figures.
    pub fn run_time_error(message: impl fmt::Display) -> Self {
        Self { verdict: CaseVerdict::RunTimeError, ..Self::judge_error(message) }
    }

    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us)
    }

    pub fn wall(&self) -> Duration {
        Duration::from_micros(self.wall_us)
    }
}

/// A case by its name, and its result.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedCase {
    pub name: String,
    #[serde(flatten)]
    pub result: CaseResult,
}

/// What the judge did with a submission.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgment {
    Judged(Vec<JudgedCase>),
    /// It does not compile. Holds the compiler's messages.
    CompileError(String),
    /// This machine has no tool for its language.
    Skipped(String),
    /// It could not be judged, because of the problem or the machine.
    NotJudged(String),
}

/// The result of a submission, a row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct SubmissionResult {
    pub problem: String,
    pub submission: String,
    pub language: String,
    pub time_limit_ms: Option<u64>,
    pub expected: String,
    pub as_expected: bool,
    /// Remarks that do not decide whether it is as expected.
    pub notes: Vec<String>,
    #[serde(rename = "got")]
    pub judgment: Judgment,
}

impl SubmissionResult {
    pub fn cases(&self) -> &[JudgedCase] {
        match &self.judgment {
            Judgment::Judged(cases) => cases,
            _ => &[],
        }
    }

    /// Whether no case has another verdict than accepted.
    pub fn has_passed(&self) -> bool {
        self.cases().iter().all(|case| case.result.verdict == CaseVerdict::Accepted)
    }

    /// The first case with a failure of the judge, or else the first that is not accepted.
    pub fn first_failure(&self) -> Option<&JudgedCase> {
        let first = |is_match: fn(CaseVerdict) -> bool| self.cases().iter().find(|case| is_match(case.result.verdict));
        first(|verdict| verdict == CaseVerdict::JudgeError)
            .or_else(|| first(|verdict| verdict != CaseVerdict::Accepted))
    }

    /// The longest CPU time of a case.
    pub fn slowest(&self) -> Option<Duration> {
        self.cases().iter().map(|case| case.result.cpu()).max()
    }

    /// The most memory that a case used, in bytes.
    pub fn memory(&self) -> Option<u64> {
        self.cases().iter().filter_map(|case| case.result.memory_bytes).max()
    }

    /// The result in a few words.
    pub fn summary(&self) -> String {
        match &self.judgment {
            Judgment::CompileError(_) => "CE".into(),
            Judgment::Skipped(why) => format!("skipped: {why}"),
            Judgment::NotJudged(_) => "not judged".into(),
            Judgment::Judged(_) => match self.first_failure() {
                Some(case) => format!("{} on {}", case.result.verdict.abbreviation(), case.name),
                None => "AC".into(),
            },
        }
    }

    /// The details: the compiler's messages, or the message of the first failure.
    pub fn message(&self) -> &str {
        match &self.judgment {
            Judgment::CompileError(messages) | Judgment::NotJudged(messages) => messages,
            Judgment::Skipped(_) => "",
            Judgment::Judged(_) => self.first_failure().map_or("", |case| &case.result.message),
        }
    }
}
