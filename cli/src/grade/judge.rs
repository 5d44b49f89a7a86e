//! Judges submissions of one problem, case by case.
//!
//! Invariant: a failure of the machine is retried once, in another container, before it becomes
//! [`CaseVerdict::JudgeError`](super::result::CaseVerdict::JudgeError).

use super::case_run::CaseRun;
use super::limits::{ProblemLimits, TimeLimit};
use super::program::Program;
use super::result::CaseResult;
use super::test_data::Case;
use super::validator::Validator;
use super::workers::{Workers, retry_once};
use super::{batch, interactive};

pub struct Judge<'a> {
    pub workers: &'a Workers,
    pub limits: &'a ProblemLimits,
    pub validator: Validator,
}

impl Judge<'_> {
    /// Judges a submission on a case.
    pub async fn judge(&self, submission: &Program, case: &Case, time: TimeLimit, label: &str) -> CaseResult {
        let run = CaseRun { workers: self.workers, limits: self.limits, submission, case, time, label };
        let result = retry_once(async || match &self.validator {
            Validator::Default => batch::judge(run, &[]).await,
            Validator::Custom(validators) => batch::judge(run, validators).await,
            Validator::Interactive(validator) => interactive::judge(run, validator).await,
        });
        result.await.unwrap_or_else(CaseResult::judge_error)
    }
}
