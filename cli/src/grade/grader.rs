//! A problem with all its submissions: built, timed, judged, and held against what is expected.
//!
//! Invariant: every submission of every problem has exactly one line in the result, whatever went wrong.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use super::bench::{Bench, twice};
use super::expect::Submission;
use super::journal::{Journal, key};
use super::judge::{Judge, Validator};
use super::limits::Clock;
use super::package::{Problem, Validation};
use super::program::{Built, Program, Source};
use super::progress::Progress;
use super::timing::TimeRule;
use super::verdict::{CaseResult, Got, Graded, JudgedCase, Verdict};
use super::{Failure, limits};

/// How long a submission may take whose own time says what the limit is.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all problems are graded with.
pub struct Grader<'a> {
    pub bench: &'a Bench,
    pub journal: &'a Journal,
    pub progress: &'a Progress,
}

impl Grader<'_> {
    /// Grades every submission of a problem.
    pub async fn grade(&self, problem: &Problem) -> Result<Vec<Graded>, Failure> {
        let judge = match self.validator(problem).await {
            Ok(validator) => Judge { bench: self.bench, limits: &problem.limits, validator },
            Err(why) => return Ok(self.give_up(problem, problem.submissions.iter().enumerate(), &why)),
        };
        let (first, then): (Vec<_>, Vec<_>) = match problem.time {
            TimeRule::Given { .. } => (vec![], problem.submissions.iter().enumerate().collect()),
            TimeRule::Measured { .. } => {
                problem.submissions.iter().enumerate().partition(|(_, it)| it.bounds_time_below())
            }
        };
        let mut graded = self.grade_some(problem, &judge, first, None).await?;
        // One that never ends says nothing about how long the others may take.
        let cases = graded.iter().flat_map(|(_, graded)| graded.cases());
        let ended = cases.filter(|case| case.result.verdict != Verdict::TimeLimitExceeded);
        let slowest = ended.map(|case| case.result.cpu()).max();
        match problem.time.limit(slowest) {
            Some(limit) => graded.extend(self.grade_some(problem, &judge, then, Some(limit)).await?),
            None => {
                let why =
                    "no accepted submission was run, so there is no time limit: set limits.time_limit in problem.yaml";
                let lost = self.give_up(problem, then.iter().copied(), why);
                graded.extend(then.iter().map(|(number, _)| *number).zip(lost));
            }
        }
        for (_, graded) in &mut graded {
            graded.time_limit_ms = problem.time.limit(slowest).map(|limit| limit.as_millis() as u64);
        }
        graded.sort_by_key(|(number, _)| *number);
        Ok(graded.into_iter().map(|(_, graded)| graded).collect())
    }

    /// Builds what validates; an error says why nothing can be judged.
    async fn validator(&self, problem: &Problem) -> Result<Validator, String> {
        let build = async |source: &Source| {
            let label = format!("{}: {}", problem.name, source.name);
            self.build(problem, source, &label).await.map_err(|got| {
                let why = match got {
                    Got::CompileError(words) => format!("does not compile: {words}"),
                    Got::Skipped(why) | Got::NotJudged(why) => format!("cannot be built: {why}"),
                    Got::Judged(_) => "was judged".into(),
                };
                format!("the validator {} {why}", source.name)
            })
        };
        Ok(match &problem.validation {
            Validation::Default => Validator::Default,
            Validation::Interactive(source) => Validator::Interactive(build(source).await?),
            Validation::Custom(sources) => {
                let mut programs = Vec::new();
                for source in sources {
                    programs.push(build(source).await?);
                }
                Validator::Custom(programs)
            }
        })
    }

    /// Builds a program; or else what a submission gets that has none.
    async fn build(&self, problem: &Problem, source: &Source, label: &str) -> Result<Program, Got> {
        match twice(async || source.build(self.bench, &problem.limits, label).await).await {
            Ok(Built::Ready(program)) => Ok(program),
            Ok(Built::Failed(words)) => Err(Got::CompileError(words)),
            Ok(Built::Missing(why)) => Err(Got::Skipped(why)),
            Err(error) => Err(Got::NotJudged(error.to_string())),
        }
    }

    async fn grade_some(
        &self,
        problem: &Problem,
        judge: &Judge<'_>,
        submissions: Vec<(usize, &Submission)>,
        limit: Option<Duration>,
    ) -> Result<Vec<(usize, Graded)>, Failure> {
        let one = async |(number, submission): (usize, &Submission)| {
            let clock = match limit {
                Some(limit) if submission.bounds_time_above() => {
                    Clock { limit, kill: limit.mul_f64(problem.time.margin()) }
                }
                limit => Clock::of(limit.unwrap_or(PATIENCE)),
            };
            let got = self.judge_all(problem, judge, submission, clock).await?;
            Ok::<_, Failure>((number, graded(problem, submission, clock, got)))
        };
        let graded = stream::iter(submissions).map(one).buffer_unordered(self.bench.size);
        graded.collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Builds a submission, unless all its cases are known, and judges it on each.
    async fn judge_all(
        &self,
        problem: &Problem,
        judge: &Judge<'_>,
        submission: &Submission,
        clock: Clock,
    ) -> Result<Got, Failure> {
        let stamp = (problem.stamp, submission.source.stamp(), clock.limit, clock.kill);
        let keys: Vec<_> =
            problem.cases.iter().map(|case| key((&problem.name, &submission.name, &case.name, stamp))).collect();
        let is_known = keys.iter().all(|&key| self.journal.known(key).is_some());
        let label = format!("{}: {}", problem.name, submission.name);
        let program = match is_known {
            true => None,
            false => match self.build(problem, &submission.source, &label).await {
                Ok(program) => Some(program),
                Err(got) => {
                    self.progress.left_out(keys.len());
                    return Ok(got);
                }
            },
        };
        let one = async |(case, key)| {
            let case: &super::package::Case = case;
            let label = format!("{label}: {}", case.name);
            let result = match (self.journal.known(key), &program) {
                (Some(known), _) => known,
                (None, Some(program)) => {
                    let result = judge.case(program, case, clock, &label).await;
                    self.journal.record(&label, key, &result)?;
                    result
                }
                (None, None) => CaseResult::judge_error("known a moment ago"),
            };
            self.progress.finished(result.verdict);
            Ok::<_, Failure>(JudgedCase { name: case.name.clone(), result })
        };
        let cases = stream::iter(problem.cases.iter().zip(keys)).map(one).buffered(self.bench.size);
        Ok(Got::Judged(cases.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?))
    }

    fn give_up<'p>(
        &self,
        problem: &Problem,
        submissions: impl Iterator<Item = (usize, &'p Submission)>,
        why: &str,
    ) -> Vec<Graded> {
        let lost = submissions.map(|(_, submission)| {
            self.progress.left_out(problem.cases.len());
            graded(problem, submission, Clock::of(PATIENCE), Got::NotJudged(why.into()))
        });
        lost.collect()
    }
}

fn graded(problem: &Problem, submission: &Submission, clock: Clock, got: Got) -> Graded {
    let as_expected = match &got {
        Got::Judged(cases) => submission.is_met_by(cases),
        Got::CompileError(_) => submission.is_broken,
        // Said, and no failure: another machine has the tool.
        Got::Skipped(_) => true,
        Got::NotJudged(_) => false,
    };
    let mut graded = Graded {
        problem: problem.name.clone(),
        submission: submission.name.clone(),
        language: submission.source.language().map_or("", |language| language.code).into(),
        time_limit_ms: None,
        expected: submission.expected(),
        as_expected,
        notes: Vec::new(),
        got,
    };
    if as_expected && clock.kill > clock.limit && graded.slowest().is_some_and(|slowest| slowest < clock.kill) {
        let note = format!("too slow, but within the margin of {} s", limits::seconds(clock.kill));
        graded.notes.push(note);
    }
    graded
}
