//! HumanEval: Python tasks with a prompt, a solution and a test, each one run.
//!
//! Invariant: a task is passed only where its test came to its end. A solution that leaves early with a good exit code has
//! not printed the word that comes last.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use cellblock::{Command, Limits};
use flate2::read::MultiGzDecoder;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::bench::{Activity, Bench, twice};
use super::grader::Grader;
use super::journal::key;
use super::judge::result_of;
use super::languages;
use super::limits::Clock;
use super::verdict::{CaseResult, Got, Graded, JudgedCase, Verdict};

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

/// A program to run, under the names that the table has for it.
pub struct Attempt {
    task: String,
    name: String,
    program: String,
    expected: &'static str,
}

const TIME: Duration = Duration::from_secs(10);

/// Reads the tasks, and the samples or else the canonical solutions.
pub fn read(tasks: &Path, samples: Option<&Path>) -> Result<Vec<Attempt>, Failure> {
    let tasks: Vec<Task> = lines(tasks)?;
    let Some(path) = samples else {
        let canonical = |task: &Task| task.attempt(&task.canonical_solution, "canonical".into(), "AC");
        return Ok(tasks.iter().map(canonical).collect());
    };
    let by_id: HashMap<_, _> = tasks.iter().map(|task| (task.task_id.as_str(), task)).collect();
    let mut attempts = Vec::new();
    let mut counts = HashMap::new();
    for Sample { task_id, completion } in lines(path)? {
        let unknown = || format!("{}: {task_id} is no task of the data set", path.display());
        let task = by_id.get(task_id.as_str()).ok_or_else(unknown)?;
        let count = counts.entry(task_id.clone()).or_insert(0);
        *count += 1;
        attempts.push(task.attempt(&completion, format!("sample {count}"), "any"));
    }
    Ok(attempts)
}

impl Task {
    fn attempt(&self, solution: &str, name: String, expected: &'static str) -> Attempt {
        let Self { task_id, prompt, entry_point, test, .. } = self;
        let program = format!("{prompt}{solution}\n{test}\ncheck({entry_point})\n");
        Attempt { task: task_id.clone(), name, program, expected }
    }
}

impl Grader<'_> {
    /// Runs every attempt.
    pub async fn attempt_all(&self, attempts: &[Attempt]) -> Result<Vec<Graded>, Failure> {
        let one = async |attempt: &Attempt| {
            let (key, label) = (key((&attempt.task, &attempt.program)), format!("{}: {}", attempt.task, attempt.name));
            let result = match self.journal.known(key) {
                Some(known) => known,
                None => {
                    let result = twice(async || run(self.bench, attempt, &label).await);
                    let result = result.await.unwrap_or_else(CaseResult::judge_error);
                    self.journal.record(&label, key, &result)?;
                    result
                }
            };
            self.progress.finished(result.verdict);
            Ok::<_, Failure>(attempt.graded(result))
        };
        let graded = stream::iter(attempts).map(one).buffered(self.bench.size);
        graded.collect::<Vec<_>>().await.into_iter().collect()
    }
}

impl Attempt {
    fn graded(&self, result: CaseResult) -> Graded {
        let as_expected = match result.verdict {
            Verdict::JudgeError => false,
            verdict => self.expected == "any" || verdict == Verdict::Accepted,
        };
        Graded {
            problem: self.task.clone(),
            submission: self.name.clone(),
            language: "python3".into(),
            time_limit_ms: Some(TIME.as_millis() as u64),
            expected: self.expected.into(),
            as_expected,
            notes: Vec::new(),
            got: Got::Judged(vec![JudgedCase { name: "test".into(), result }]),
        }
    }
}

async fn run(bench: &Bench, attempt: &Attempt, label: &str) -> Result<CaseResult, Failure> {
    let python = languages::by_code("python3").ok_or("no line for Python")?;
    let python = bench.toolbox.tool(python)?;
    let seat = bench.take(Activity::Run, label).await?;
    // Not to be guessed from the program, and other than anything that it prints.
    let word = format!("{:016x}", key((label, &attempt.program, std::time::SystemTime::now())));
    let program = format!("{}\nprint('\\n{word}')\n", attempt.program);
    seat.write("/w/task.py", program, 0o644).await?;
    let limits = Limits::new().cpu_time(TIME).wall_time(TIME * 2).memory(1 << 30).output(8 << 20).allow_weaker(true);
    let mut command = Command::new(python);
    command.arg("task.py").env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/tmp").limits(limits);
    command.capture_bytes(8 << 20);
    let output = seat.output(&command).await?;
    let result = result_of(&output.report, Clock::of(TIME), &output.stderr);
    let came_to_the_end = output.stdout.trim_ascii_end().ends_with(word.as_bytes());
    let is_assertion = result.message.contains("AssertionError");
    Ok(match result.verdict {
        Verdict::Accepted if !came_to_the_end => {
            CaseResult { verdict: Verdict::WrongAnswer, message: "it left before the test's end".into(), ..result }
        }
        Verdict::RunTimeError if is_assertion => CaseResult { verdict: Verdict::WrongAnswer, ..result },
        _ => result,
    })
}

/// The values of a file of JSON lines, which may be compressed.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    let failure = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| failure(&error))?;
    let is_compressed = path.extension().is_some_and(|ending| ending == "gz");
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
