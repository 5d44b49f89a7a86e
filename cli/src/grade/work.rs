//! What is to be graded.
//!
//! Invariant: all input is read before the first container is built.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::humaneval::{Attempt, read_attempts};
use super::package::{self, Problem, find_packages};
use super::result::{Judgment, SubmissionResult};

pub enum Work {
    Problems {
        problems: Vec<Problem>,
        /// A result for each package that cannot be read.
        unreadable: Vec<SubmissionResult>,
    },
    HumanEval(Vec<Attempt>),
}

impl Work {
    /// Reads all problem packages below some folders.
    pub fn read_packages(folders: &[PathBuf]) -> Result<Self, Failure> {
        let (mut problems, mut unreadable) = (Vec::new(), Vec::new());
        for folder in folders {
            let packages = find_packages(folder)?;
            if packages.is_empty() {
                let folder = folder.display();
                return Err(format!("{folder}: no problem package below it; one has a problem.yaml").into());
            }
            for dir in packages {
                match Problem::read(&dir) {
                    Ok(problem) => problems.push(problem),
                    Err(why) => unreadable.push(unreadable_package(&dir, why)),
                }
            }
        }
        Ok(Self::Problems { problems, unreadable })
    }

    pub fn read_humaneval(tasks: &Path, samples: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self::HumanEval(read_attempts(tasks, samples)?))
    }

    /// How many cases there are.
    pub fn cases(&self) -> usize {
        match self {
            Self::HumanEval(attempts) => attempts.len(),
            Self::Problems { problems, .. } => problems.iter().map(|it| it.cases.len() * it.submissions.len()).sum(),
        }
    }

    /// The smallest number of containers: an interactive problem and an attempt of HumanEval need
    /// two at a time.
    pub fn min_containers(&self) -> usize {
        match self {
            Self::Problems { problems, .. } if problems.iter().any(Problem::is_interactive) => 2,
            Self::Problems { .. } => 1,
            Self::HumanEval(_) => 2,
        }
    }
}

fn unreadable_package(dir: &Path, why: String) -> SubmissionResult {
    SubmissionResult {
        problem: package::name(dir),
        submission: String::new(),
        language: String::new(),
        time_limit_ms: None,
        expected: String::new(),
        as_expected: false,
        notes: Vec::new(),
        judgment: Judgment::NotJudged(why),
    }
}
