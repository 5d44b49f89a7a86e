//! A problem with all its submissions: built, timed, judged, and compared with what is expected.
//!
//! Invariant: every submission of every problem has exactly one result.

use std::time::Duration;

use futures::{StreamExt, stream};

use super::build::{Built, build};
use super::expectation::Submission;
use super::failure::Failure;
use super::journal::{Journal, key};
use super::judge::Judge;
use super::limits::TimeLimit;
use super::package::{Problem, Validation};
use super::program::Program;
use super::progress::Progress;
use super::result::{CaseResult, CaseVerdict, JudgedCase, Judgment, SubmissionResult};
use super::source::Source;
use super::test_data::Case;
use super::text::seconds;
use super::timing::TimeRule;
use super::validator::Validator;
use super::workers::{Workers, retry_once};

/// How long a submission may take whose own time determines the limit.
const MEASURED_TIME: Duration = Duration::from_secs(30);
const NO_TIME_LIMIT: &str =
    "no accepted submission was run, so there is no time limit: set limits.time_limit in problem.yaml";

/// What all problems are graded with.
pub struct Grader<'a> {
    pub workers: &'a Workers,
    pub journal: &'a Journal,
    pub progress: &'a Progress,
}

/// A submission with its position in the package.
type Numbered<'a> = (usize, &'a Submission);

impl Grader<'_> {
    /// Grades every submission of a problem.
    pub async fn grade(&self, problem: &Problem) -> Result<Vec<SubmissionResult>, Failure> {
        let judge = match self.build_validator(problem).await {
            Ok(validator) => Judge { workers: self.workers, limits: &problem.limits, validator },
            Err(why) => return Ok(self.not_judged(problem, problem.submissions.iter(), &why)),
        };
        let submissions = problem.submissions.iter().enumerate();
        let (lower_bounds, others): (Vec<_>, Vec<_>) = match problem.time {
            TimeRule::Given { .. } => (Vec::new(), submissions.collect()),
            TimeRule::Measured { .. } => submissions.partition(|(_, it)| it.is_lower_bound()),
        };
        let mut results = self.judge_submissions(problem, &judge, &lower_bounds, None).await?;
        let limit = problem.time.limit(slowest(&results));
        match limit {
            Some(_) => results.extend(self.judge_submissions(problem, &judge, &others, limit).await?),
            None => {
                let not_judged = self.not_judged(problem, others.iter().map(|(_, it)| *it), NO_TIME_LIMIT);
                results.extend(others.iter().map(|(number, _)| *number).zip(not_judged));
            }
        }
        results.sort_by_key(|(number, _)| *number);
        let time_limit_ms = limit.map(|limit| limit.as_millis() as u64);
        Ok(results.into_iter().map(|(_, result)| SubmissionResult { time_limit_ms, ..result }).collect())
    }

    /// Builds the validators of a problem. An error is the reason why nothing can be judged.
    async fn build_validator(&self, problem: &Problem) -> Result<Validator, String> {
        Ok(match &problem.validation {
            Validation::Default => Validator::Default,
            Validation::Interactive(source) => Validator::Interactive(self.validator_program(problem, source).await?),
            Validation::Custom(sources) => {
                let mut programs = Vec::new();
                for source in sources {
                    programs.push(self.validator_program(problem, source).await?);
                }
                Validator::Custom(programs)
            }
        })
    }

    async fn validator_program(&self, problem: &Problem, source: &Source) -> Result<Program, String> {
        let label = format!("{}: {}", problem.name, source.name);
        let built = retry_once(async || build(source, self.workers, &problem.limits, &label).await);
        let why = match built.await {
            Ok(Built::Program(program)) => return Ok(program),
            Ok(Built::CompileError(messages)) => format!("does not compile: {messages}"),
            Ok(Built::NoTool(why)) => format!("cannot be built: {why}"),
            Err(error) => format!("cannot be built: {error}"),
        };
        Err(format!("the validator {} {why}", source.name))
    }

    /// Judges submissions, several at a time. Without a limit they are run to measure their time.
    async fn judge_submissions(
        &self,
        problem: &Problem,
        judge: &Judge<'_>,
        submissions: &[Numbered<'_>],
        limit: Option<Duration>,
    ) -> Result<Vec<(usize, SubmissionResult)>, Failure> {
        let judge_one = async |&(number, submission): &Numbered<'_>| {
            let time = match limit {
                Some(limit) if submission.is_upper_bound() => {
                    TimeLimit { limit, kill: limit.mul_f64(problem.time.margin()) }
                }
                limit => TimeLimit::hard(limit.unwrap_or(MEASURED_TIME)),
            };
            let judgment = self.judge_submission(problem, judge, submission, time).await?;
            Ok::<_, Failure>((number, result(problem, submission, time, judgment)))
        };
        let results = stream::iter(submissions).map(judge_one).buffer_unordered(self.workers.count);
        results.collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Builds a submission and judges it on every case. Cases in the journal are not run again.
    async fn judge_submission(
        &self,
        problem: &Problem,
        judge: &Judge<'_>,
        submission: &Submission,
        time: TimeLimit,
    ) -> Result<Judgment, Failure> {
        let source = match &submission.source {
            Ok(source) => source,
            Err(why) => {
                self.progress.skip_cases(problem.cases.len());
                return Ok(Judgment::NotJudged(why.clone()));
            }
        };
        let inputs = (problem.fingerprint, source.fingerprint(), time.limit, time.kill);
        let keys: Vec<_> =
            problem.cases.iter().map(|case| key((&problem.name, &submission.name, &case.name, inputs))).collect();
        let label = format!("{}: {}", problem.name, submission.name);
        let program = match keys.iter().all(|&key| self.journal.result(key).is_some()) {
            true => None,
            false => match self.build_submission(problem, source, &label).await {
                Ok(program) => Some(program),
                Err(judgment) => {
                    self.progress.skip_cases(keys.len());
                    return Ok(judgment);
                }
            },
        };
        let judge_one = async |(case, key): (&Case, u64)| {
            let label = format!("{label}: {}", case.name);
            let result = match (self.journal.result(key), &program) {
                (Some(result), _) => result,
                (None, Some(program)) => {
                    let result = judge.judge(program, case, time, &label).await;
                    self.journal.record(&label, key, &result)?;
                    result
                }
                (None, None) => CaseResult::judge_error("the journal has lost a result"),
            };
            self.progress.finish_case(result.verdict);
            Ok::<_, Failure>(JudgedCase { name: case.name.clone(), result })
        };
        let cases = stream::iter(problem.cases.iter().zip(keys)).map(judge_one).buffered(self.workers.count);
        Ok(Judgment::Judged(cases.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?))
    }

    /// Builds a submission. An error is the judgment of a submission that cannot be built.
    async fn build_submission(&self, problem: &Problem, source: &Source, label: &str) -> Result<Program, Judgment> {
        let built = retry_once(async || build(source, self.workers, &problem.limits, label).await);
        match built.await {
            Ok(Built::Program(program)) => Ok(program),
            Ok(Built::CompileError(messages)) => Err(Judgment::CompileError(messages)),
            Ok(Built::NoTool(why)) => Err(Judgment::Skipped(why)),
            Err(error) => Err(Judgment::NotJudged(error.to_string())),
        }
    }

    fn not_judged<'p>(
        &self,
        problem: &Problem,
        submissions: impl Iterator<Item = &'p Submission>,
        why: &str,
    ) -> Vec<SubmissionResult> {
        let results = submissions.map(|submission| {
            self.progress.skip_cases(problem.cases.len());
            result(problem, submission, TimeLimit::hard(MEASURED_TIME), Judgment::NotJudged(why.into()))
        });
        results.collect()
    }
}

/// The longest CPU time of a case that ended. A case that exceeded the limit has no time of its
/// own.
fn slowest(results: &[(usize, SubmissionResult)]) -> Option<Duration> {
    let cases = results.iter().flat_map(|(_, result)| result.cases());
    let ended = cases.filter(|case| case.result.verdict != CaseVerdict::TimeLimitExceeded);
    ended.map(|case| case.result.cpu()).max()
}

/// Compares a judgment with what is expected.
fn result(problem: &Problem, submission: &Submission, time: TimeLimit, judgment: Judgment) -> SubmissionResult {
    let as_expected = match &judgment {
        Judgment::Judged(cases) => submission.is_met_by(cases),
        Judgment::CompileError(_) => submission.must_not_compile,
        // Reported, but no failure: another machine has the tool.
        Judgment::Skipped(_) => true,
        Judgment::NotJudged(_) => false,
    };
    let mut result = SubmissionResult {
        problem: problem.name.clone(),
        submission: submission.name.clone(),
        language: submission.language().map_or("", |language| language.code).into(),
        time_limit_ms: None,
        expected: submission.expected(),
        as_expected,
        notes: Vec::new(),
        judgment,
    };
    if as_expected && time.kill > time.limit && result.slowest().is_some_and(|slowest| slowest < time.kill) {
        result.notes.push(format!("too slow, but within the margin of {} s", seconds(time.kill)));
    }
    result
}
