//! Grades programs in containers: every submission of every problem package below a folder, or the tasks of HumanEval.
//!
//! ```text
//! grade FOLDER...                                 [-j N] [--json FILE] [--report FILE.html] [--resume FILE]
//! grade --humaneval FILE.jsonl[.gz] [--samples FILE.jsonl] [the same]
//! ```
//!
//! The exit code is 0 where everything is as expected, 1 where not, 2 for wrong arguments and what cannot be read, 125 where
//! the containers failed. Ctrl-C and SIGTERM end it at once, with 128+n, and leave nothing behind.
//!
//! Of the package format it leaves out scores, multi-pass and submit-answer problems, input validators, static validators,
//! visualizers, constants, and `allow_file_writing`: a submission may always write to its own directory.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use futures::{StreamExt, stream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

mod bench;
mod compare;
mod expect;
mod grader;
mod humaneval;
mod interact;
mod journal;
mod judge;
mod languages;
mod limits;
mod package;
mod page;
mod program;
mod progress;
mod table;
mod timing;
mod verdict;

use bench::Bench;
use grader::Grader;
use humaneval::Attempt;
use journal::Journal;
use package::{Problem, Validation};
use progress::Progress;
use verdict::{Got, Graded, Verdict};

/// Whatever goes wrong with the machine or the input, and not with a submission.
type Failure = Box<dyn Error + Send + Sync>;

/// Grades every submission of every problem package below a folder, and holds it against what is expected.
#[derive(Args)]
pub struct Options {
    /// Folders with problem packages (Kattis/ICPC format, legacy or 2023-07).
    #[arg(required_unless_present = "humaneval")]
    folders: Vec<PathBuf>,
    /// Runs the tasks of HumanEval instead: lines of JSON, which may be compressed.
    #[arg(long, value_name = "FILE", conflicts_with = "folders")]
    humaneval: Option<PathBuf>,
    /// Lines of {"task_id", "completion"} to run in the place of the canonical solutions.
    #[arg(long, value_name = "FILE", requires = "humaneval", conflicts_with = "folders")]
    samples: Option<PathBuf>,
    /// How many containers work at once [default: one for each processor].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    jobs: Option<u16>,
    /// Writes all results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page of HTML with the table, the slowest cases, and what each container did when.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Keeps what is finished in this file, and does not repeat what is there already.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

/// What there is to do, read and found sound.
enum Work {
    Problems { problems: Vec<Problem>, broken: Vec<Graded> },
    HumanEval(Vec<Attempt>),
}

pub fn main(options: Options) -> ExitCode {
    let work = Work::read(&options).and_then(|work| {
        let journal = options.resume.as_deref().map_or_else(|| Ok(Journal::default()), Journal::open)?;
        Ok((work, journal))
    });
    let (work, journal) = match work {
        Ok(work) => work,
        Err(error) => return failure(&error, 2),
    };
    let done = Runtime::new().map_err(Failure::from).and_then(|runtime| {
        let done = runtime.block_on(unless_interrupted(&options, &work, &journal));
        runtime.shutdown_background();
        done
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure(&error, 125),
    }
}

fn failure(error: &Failure, code: u8) -> ExitCode {
    eprintln!("grade: {error}");
    ExitCode::from(code)
}

impl Work {
    fn read(options: &Options) -> Result<Self, Failure> {
        if let Some(tasks) = &options.humaneval {
            return Ok(Self::HumanEval(humaneval::read(tasks, options.samples.as_deref())?));
        }
        let (mut problems, mut broken) = (Vec::new(), Vec::new());
        for folder in &options.folders {
            let found = package::find(folder)?;
            if found.is_empty() {
                let folder = folder.display();
                return Err(format!("{folder}: no problem package below it; one has a problem.yaml").into());
            }
            for dir in found {
                match Problem::read(&dir) {
                    Ok(problem) => problems.push(problem),
                    Err(why) => broken.push(unreadable(&dir, why)),
                }
            }
        }
        Ok(Self::Problems { problems, broken })
    }

    fn cases(&self) -> usize {
        match self {
            Self::HumanEval(attempts) => attempts.len(),
            Self::Problems { problems, .. } => problems.iter().map(|it| it.cases.len() * it.submissions.len()).sum(),
        }
    }

    /// How many containers are needed at least: an interactive problem's two programs have one each.
    fn least(&self) -> usize {
        let is_interactive = |problem: &Problem| matches!(problem.validation, Validation::Interactive(_));
        match self {
            Self::Problems { problems, .. } if problems.iter().any(is_interactive) => 2,
            _ => 1,
        }
    }
}

fn unreadable(dir: &Path, why: String) -> Graded {
    Graded {
        problem: package::name(dir),
        submission: String::new(),
        language: String::new(),
        time_limit_ms: None,
        expected: String::new(),
        as_expected: false,
        notes: Vec::new(),
        got: Got::NotJudged(why),
    }
}

async fn unless_interrupted(options: &Options, work: &Work, journal: &Journal) -> Result<u8, Failure> {
    // Caught before there is anything to leave behind.
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let jobs = options.jobs.map(usize::from).or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    let start = Instant::now();
    let bench = tokio::select! {
        bench = Bench::set_up(jobs.unwrap_or(1).max(work.least())) => bench?,
        _ = interrupted.recv() => return Ok(130),
        _ = terminated.recv() => return Ok(143),
    };
    let progress = Progress::new(work.cases());
    let grader = Grader { bench: &bench, journal, progress: &progress };
    let graded = tokio::select! {
        graded = grade(&grader, work) => Ok(graded),
        _ = interrupted.recv() => Err(130),
        _ = terminated.recv() => Err(143),
    };
    progress.end();
    bench.clear().await;
    match graded {
        Ok(graded) => tell(options, work, &graded?, &bench, start),
        Err(code) => Ok(code),
    }
}

async fn grade(grader: &Grader<'_>, work: &Work) -> Result<Vec<Graded>, Failure> {
    match work {
        Work::HumanEval(attempts) => grader.attempt_all(attempts).await,
        Work::Problems { problems, broken } => {
            let each = stream::iter(problems).map(|problem| grader.grade(problem)).buffered(grader.bench.size);
            let mut graded: Vec<_> =
                each.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            graded.extend(broken.iter().cloned());
            Ok(graded)
        }
    }
}

/// Tells the results in every way that was asked for, and gives the exit code.
fn tell(options: &Options, work: &Work, graded: &[Graded], bench: &Bench, start: Instant) -> Result<u8, Failure> {
    let passed =
        graded.iter().filter(|it| it.cases().iter().all(|case| case.result.verdict == Verdict::Accepted)).count();
    let pass_at_1 = matches!(work, Work::HumanEval(_)).then_some((passed, graded.len()));
    let summary = table::summary(graded, start.elapsed());
    match pass_at_1 {
        // Hundreds of lines that all say the same are left out.
        Some(_) => print!("{}", table::table(graded.iter().filter(|graded| graded.in_short() != "AC"))),
        None => print!("{}", table::table(graded)),
    }
    for remark in table::remarks(graded) {
        println!("{remark}");
    }
    if !bench.counts_memory {
        println!("no control groups here: memory was limited for each process by itself (see the example `doctor`)");
    }
    println!("{summary}");
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    if let Some(path) = &options.json {
        write(path, format!("{:#}\n", table::json(graded, pass_at_1)))?;
    }
    if let Some(path) = &options.report {
        write(path, page::page(graded, &bench.spans(), &summary))?;
    }
    if let Some((passed, of)) = pass_at_1 {
        println!("pass@1: {passed} of {of}");
    }
    Ok(u8::from(!graded.iter().all(|graded| graded.as_expected)))
}
