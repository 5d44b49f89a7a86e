//! What became of a case, and of a submission with all its cases.
//!
//! Invariant: a submission is as expected or not by its cases' verdicts alone, and whoever reads the JSON has all of them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a case is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Accepted,
    WrongAnswer,
    TimeLimitExceeded,
    MemoryLimitExceeded,
    OutputLimitExceeded,
    RunTimeError,
    /// The judging failed, and not the submission: a validator that crashed, a container that was lost twice.
    JudgeError,
}

impl Verdict {
    /// The letters that judges write.
    pub fn short(self) -> &'static str {
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

    /// Which of the format's four outcomes it counts as, if any: a program that its limits ended has crashed.
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

/// The four outcomes that the format speaks of, by its names.
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

/// What is known of one run of a submission on one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    pub verdict: Verdict,
    pub cpu_us: u64,
    pub wall_us: u64,
    pub memory_bytes: Option<u64>,
    /// Why, where somebody said so: the comparison, the validator's `judgemessage.txt`, or the program's last words.
    pub message: String,
}

impl CaseResult {
    /// The judge's own failure, of which no figure is known.
    pub fn judge_error(message: impl fmt::Display) -> Self {
        let (cpu_us, wall_us, memory_bytes) = (0, 0, None);
        Self { verdict: Verdict::JudgeError, cpu_us, wall_us, memory_bytes, message: message.to_string() }
    }

    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us)
    }
}

/// A case by its name, and its result.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedCase {
    pub name: String,
    #[serde(flatten)]
    pub result: CaseResult,
}

/// What a submission got.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Got {
    Judged(Vec<JudgedCase>),
    /// It does not compile; the compiler's words.
    CompileError(String),
    /// This machine has no tool for its language.
    Skipped(String),
    /// It could not be judged at all, for a reason that is the problem's or the machine's.
    NotJudged(String),
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Graded {
    pub problem: String,
    pub submission: String,
    pub language: String,
    pub time_limit_ms: Option<u64>,
    pub expected: String,
    pub as_expected: bool,
    /// What is odd about it, though as expected or not for other reasons.
    pub notes: Vec<String>,
    pub got: Got,
}

impl Graded {
    pub fn cases(&self) -> &[JudgedCase] {
        match &self.got {
            Got::Judged(cases) => cases,
            _ => &[],
        }
    }

    /// The judge's own failure, or the first case, in the order of the data, that is not accepted.
    pub fn first_failure(&self) -> Option<&JudgedCase> {
        let first = |is_it: fn(Verdict) -> bool| self.cases().iter().find(|case| is_it(case.result.verdict));
        first(|verdict| verdict == Verdict::JudgeError).or_else(|| first(|verdict| verdict != Verdict::Accepted))
    }

    pub fn slowest(&self) -> Option<Duration> {
        self.cases().iter().map(|case| case.result.cpu()).max()
    }

    pub fn memory(&self) -> Option<u64> {
        self.cases().iter().filter_map(|case| case.result.memory_bytes).max()
    }

    /// In a few words: what it got, and where.
    pub fn in_short(&self) -> String {
        match &self.got {
            Got::CompileError(_) => "CE".into(),
            Got::Skipped(why) => format!("skipped: {why}"),
            Got::NotJudged(_) => "not judged".into(),
            Got::Judged(_) => match self.first_failure() {
                Some(case) => format!("{} on {}", case.result.verdict.short(), case.name),
                None => "AC".into(),
            },
        }
    }

    /// Whatever says more: the compiler's words, or the first failure's message.
    pub fn message(&self) -> &str {
        match &self.got {
            Got::CompileError(words) | Got::NotJudged(words) => words,
            Got::Skipped(_) => "",
            Got::Judged(_) => self.first_failure().map_or("", |case| &case.result.message),
        }
    }
}
