//! HumanEval: Python tasks with a prompt, a solution and a test.
//!
//! Two containers judge an attempt. One runs the solution and answers calls, the other one runs the
//! test and makes the calls. Only plain values pass between them, as bytes.
//!
//! Invariant: a task is passed only if the checker exits with 42. A solution has neither a process
//! nor a file nor a name in the checker's container. It can only give answers to calls. It sees the
//! arguments of the calls and never the answers that the test expects.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use cellblock::report::Status;
use cellblock::{Command, Limits, Report, Verdict};
use flate2::read::MultiGzDecoder;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::case_run::run_result;
use super::failure::Failure;
use super::grader::Grader;
use super::journal::key;
use super::languages;
use super::limits::TimeLimit;
use super::result::{CaseResult, CaseVerdict, JudgedCase, Judgment, SubmissionResult};
use super::text::last_line;
use super::workers::{Workers, retry_once};
use crate::environment::PATH;

/// The CPU time of an attempt.
const TIME: Duration = Duration::from_secs(10);
const MAX_OUTPUT: u64 = 8 << 20;

const SOLUTION: &str = concat!(include_str!("humaneval/codec.py"), include_str!("humaneval/solution.py"));
const CHECKER: &str = concat!(include_str!("humaneval/codec.py"), include_str!("humaneval/checker.py"));
/// Changes with the way in which attempts are judged. Results of an older way are not used again.
const REVISION: u32 = 2;

/// A solution of a task, and the test.
pub struct Attempt {
    task: String,
    name: String,
    prompt: String,
    /// With the prompt.
    solution: String,
    test: String,
    entry_point: String,
    expected: Expected,
}

#[derive(Clone, Copy)]
enum Expected {
    Accepted,
    /// The verdicts of samples are counted, not compared.
    Any,
}

/// A task of the data set.
#[derive(Deserialize)]
struct Task {
    task_id: String,
    prompt: String,
    entry_point: String,
    #[serde(default)]
    canonical_solution: String,
    test: String,
}

#[derive(Deserialize)]
struct Sample {
    task_id: String,
    completion: String,
}

/// Reads the attempts: the samples or, without a file of samples, the canonical solutions.
pub fn read_attempts(tasks: &Path, samples: Option<&Path>) -> Result<Vec<Attempt>, Failure> {
    let tasks: Vec<Task> = read_json_lines(tasks)?;
    let Some(path) = samples else {
        let canonical = |task: &Task| task.attempt(&task.canonical_solution, "canonical".into(), Expected::Accepted);
        return Ok(tasks.iter().map(canonical).collect());
    };
    let by_id: HashMap<_, _> = tasks.iter().map(|task| (task.task_id.as_str(), task)).collect();
    let mut attempts = Vec::new();
    let mut counts = HashMap::new();
    for Sample { task_id, completion } in read_json_lines(path)? {
        let unknown = || format!("{}: {task_id} is not a task of the data set", path.display());
        let task = by_id.get(task_id.as_str()).ok_or_else(unknown)?;
        let count = counts.entry(task_id.clone()).or_insert(0);
        *count += 1;
        attempts.push(task.attempt(&completion, format!("sample {count}"), Expected::Any));
    }
    Ok(attempts)
}

/// Runs every attempt.
pub async fn run_attempts(grader: &Grader<'_>, attempts: &[Attempt]) -> Result<Vec<SubmissionResult>, Failure> {
    let run_one = async |attempt: &Attempt| {
        let (key, label) = (attempt.key(), format!("{}: {}", attempt.task, attempt.name));
        let result = match grader.journal.result(key) {
            Some(result) => result,
            None => {
                let result = retry_once(async || run(grader.workers, attempt, &label).await);
                let result = result.await.unwrap_or_else(CaseResult::judge_error);
                grader.journal.record(&label, key, &result)?;
                result
            }
        };
        grader.progress.finish_case(result.verdict);
        Ok::<_, Failure>(attempt.result(result))
    };
    let results = stream::iter(attempts).map(run_one).buffered(grader.workers.count);
    results.collect::<Vec<_>>().await.into_iter().collect()
}

impl Task {
    fn attempt(&self, solution: &str, name: String, expected: Expected) -> Attempt {
        let Self { task_id, prompt, entry_point, test, .. } = self;
        Attempt {
            task: task_id.clone(),
            name,
            prompt: prompt.clone(),
            solution: format!("{prompt}{solution}\n"),
            test: test.clone(),
            entry_point: entry_point.clone(),
            expected,
        }
    }
}

impl Attempt {
    fn key(&self) -> u64 {
        key((REVISION, &self.task, &self.solution, &self.test, &self.entry_point))
    }

    fn result(&self, result: CaseResult) -> SubmissionResult {
        let (expected, as_expected) = match self.expected {
            Expected::Accepted => ("AC", result.verdict == CaseVerdict::Accepted),
            Expected::Any => ("any", result.verdict != CaseVerdict::JudgeError),
        };
        SubmissionResult {
            problem: self.task.clone(),
            submission: self.name.clone(),
            language: "python3".into(),
            time_limit_ms: Some(TIME.as_millis() as u64),
            expected: expected.into(),
            as_expected,
            notes: Vec::new(),
            judgment: Judgment::Judged(vec![JudgedCase { name: "test".into(), result }]),
        }
    }
}

async fn run(workers: &Workers, attempt: &Attempt, label: &str) -> Result<CaseResult, Failure> {
    let python = languages::by_code("python3").ok_or("the table of languages lacks Python")?;
    let python = workers.toolchains.tool(python)?;
    let (own, other) = workers.acquire_pair(label).await?;
    own.write("/w/solution.py", attempt.solution.as_str()).await?;
    other.write("/w/prompt.py", attempt.prompt.as_str()).await?;
    other.write("/w/test.py", attempt.test.as_str()).await?;
    let solution = command(python, &["-S", "-c", SOLUTION, &attempt.entry_point], TIME * 2);
    // Python starts faster without packages. The checker needs none, and outlives the solution.
    let checker = command(python, &["-IS", "-c", CHECKER, &attempt.entry_point], TIME * 3);
    let talk = own.converse(&solution, &other, &checker).await?;
    let result = run_result(&talk.first.report, TimeLimit::hard(TIME), &talk.first.stderr);
    Ok(match result.verdict {
        CaseVerdict::Accepted => checked(result, &talk.second.report, &talk.second.stderr),
        _ => result,
    })
}

fn command(python: &Path, args: &[&str], wall: Duration) -> Command {
    let limits = Limits::new().cpu_time(TIME).wall_time(wall).memory(1 << 30).output(MAX_OUTPUT).allow_weaker(true);
    let mut command = Command::new(python);
    command.args(args).env("PATH", PATH).env("HOME", "/tmp").limits(limits).capture_bytes(MAX_OUTPUT as usize);
    command
}

/// The result of a solution that ended well, by the report on the checker.
fn checked(result: CaseResult, checker: &Report, stderr: &[u8]) -> CaseResult {
    let (verdict, message) = match (checker.status, checker.verdict()) {
        (Status::Exited(42), _) => (CaseVerdict::Accepted, String::new()),
        (Status::Exited(43), _) => (CaseVerdict::WrongAnswer, last_line(stderr)),
        // The solution chooses what its answers cost the checker.
        (_, limit @ (Verdict::CpuTime | Verdict::WallTime | Verdict::Memory | Verdict::Output)) => {
            (CaseVerdict::WrongAnswer, format!("its answers took the checker over a limit: {limit}"))
        }
        (status, _) => (CaseVerdict::JudgeError, format!("the checker {status}; {}", last_line(stderr))),
    };
    CaseResult { verdict, message, ..result }
}

/// Reads a file of JSON lines, which is compressed if its name ends in `.gz`.
fn read_json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    let failure = |error: &dyn Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| failure(&error))?;
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
    let text: Box<dyn Read> = if is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut values = Vec::new();
    for (number, line) in BufReader::new(text).lines().enumerate() {
        let line = line.map_err(|error| failure(&error))?;
        if !line.trim().is_empty() {
            let value = serde_json::from_str(&line);
            values.push(value.map_err(|error| failure(&format!("line {}: {error}", number + 1)))?);
        }
    }
    Ok(values)
}
