//! HumanEval: Python tasks with a prompt, a solution and a test.
//!
//! Invariant: a task is passed only if its test ran to the end. The end prints a word that a
//! solution cannot know, so a solution that exits early with 0 does not pass.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use cellblock::{Command, Limits};
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
use super::workers::{Activity, Workers, retry_once};
use crate::environment::PATH;

/// The CPU time of an attempt.
const TIME: Duration = Duration::from_secs(10);
const MAX_OUTPUT: u64 = 8 << 20;

/// A solution of a task, complete with its test.
pub struct Attempt {
    task: String,
    name: String,
    program: String,
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
        let (key, label) = (key((&attempt.task, &attempt.program)), format!("{}: {}", attempt.task, attempt.name));
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
        let program = format!("{prompt}{solution}\n{test}\ncheck({entry_point})\n");
        Attempt { task: task_id.clone(), name, program, expected }
    }
}

impl Attempt {
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
    let container = workers.acquire(Activity::Run, label).await?;
    // The program cannot guess this word.
    let word = format!("{:016x}", key((label, &attempt.program, SystemTime::now())));
    let program = format!("{}\nprint('\\n{word}')\n", attempt.program);
    container.write("/w/task.py", program, 0o644).await?;
    let limits = Limits::new().cpu_time(TIME).wall_time(TIME * 2).memory(1 << 30).output(MAX_OUTPUT).allow_weaker(true);
    let mut command = Command::new(python);
    command.arg("task.py").env("PATH", PATH).env("HOME", "/tmp").limits(limits);
    command.capture_bytes(MAX_OUTPUT as usize);
    let output = container.output(&command).await?;
    let result = run_result(&output.report, TimeLimit::hard(TIME), &output.stderr);
    let has_reached_the_end = output.stdout.trim_ascii_end().ends_with(word.as_bytes());
    let is_assertion = result.message.contains("AssertionError");
    Ok(match result.verdict {
        CaseVerdict::Accepted if !has_reached_the_end => CaseResult {
            verdict: CaseVerdict::WrongAnswer,
            message: "it exited before the end of the test".into(),
            ..result
        },
        CaseVerdict::RunTimeError if is_assertion => CaseResult { verdict: CaseVerdict::WrongAnswer, ..result },
        _ => result,
    })
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
