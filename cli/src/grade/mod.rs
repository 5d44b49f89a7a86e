//! `cellblock grade`: every submission of every problem package below a folder, or the tasks of
//! HumanEval, run in containers and compared with what is expected.
//!
//! Invariant: all containers are destroyed before this process exits, also after SIGINT and
//! SIGTERM.
//!
//! Every build, every run of a submission, every validator and every interactor has a lease of its
//! own. The pool resets a container before the next lease, so a file, a process or an IPC object of
//! one never meets another. Between two leases only bytes travel, through this process: the program
//! that a build made, the output of a submission, the message of a validator. A program gets
//! copies, or a sealed file in memory that is made for its run. It never gets a descriptor of a
//! file of this machine. The two pipes between a submission and its interactor are the only thing
//! that two running programs share.

mod batch;
mod build;
mod case_run;
mod compare;
mod expectation;
mod failure;
mod files;
mod grader;
mod humaneval;
mod interactive;
mod journal;
mod judge;
mod languages;
mod limits;
mod options;
mod package;
mod page;
mod program;
mod progress;
mod result;
mod source;
mod table;
mod test_data;
mod text;
mod timing;
mod toolchains;
mod validator;
mod work;
mod workers;

use std::path::Path;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use std::{fs, io};

use futures::{StreamExt, stream};

use crate::interrupts::Interrupts;
use crate::runtime::block_on;
use failure::Failure;
use grader::Grader;
use humaneval::run_attempts;
use journal::Journal;
pub use options::Options;
use progress::Progress;
use result::SubmissionResult;
use text::printable;
use work::Work;
use workers::Workers;

pub fn main(options: Options) -> ExitCode {
    let (work, journal) = match read(&options) {
        Ok(read) => read,
        Err(error) => return fail(&error, 2),
    };
    match block_on(grade(&options, &work, &journal)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, 125),
    }
}

fn fail(error: &Failure, code: u8) -> ExitCode {
    eprintln!("cellblock grade: {}", printable(&error.to_string()));
    ExitCode::from(code)
}

fn read(options: &Options) -> Result<(Work, Journal), Failure> {
    let work = match &options.humaneval {
        Some(tasks) => Work::read_humaneval(tasks, options.samples.as_deref())?,
        None => Work::read_packages(&options.folders)?,
    };
    let journal = options.resume.as_deref().map_or_else(|| Ok(Journal::default()), Journal::open)?;
    Ok((work, journal))
}

/// Grades everything and writes the results. Returns the exit code.
async fn grade(options: &Options, work: &Work, journal: &Journal) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::catch()?;
    let start = Instant::now();
    let workers = tokio::select! {
        workers = Workers::start(containers(options, work), &options.image) => workers?,
        code = interrupts.recv() => return Ok(code),
    };
    let progress = Progress::start(work.cases());
    let grader = Grader { workers: &workers, journal, progress: &progress };
    let results = tokio::select! {
        results = grade_all(&grader, work) => Ok(results),
        code = interrupts.recv() => Err(code),
    };
    progress.stop();
    workers.stop().await;
    match results {
        Ok(results) => write_results(options, work, &results?, &workers, start.elapsed()),
        Err(code) => Ok(code),
    }
}

fn containers(options: &Options, work: &Work) -> usize {
    let processors = || available_parallelism().map_or(1, usize::from);
    let default = || match work {
        // One of two containers waits most of the time.
        Work::HumanEval(_) => 2 * processors(),
        Work::Problems { .. } => processors(),
    };
    options.jobs.map_or_else(default, usize::from).max(work.min_containers())
}

async fn grade_all(grader: &Grader<'_>, work: &Work) -> Result<Vec<SubmissionResult>, Failure> {
    match work {
        Work::HumanEval(attempts) => run_attempts(grader, attempts).await,
        Work::Problems { problems, unreadable } => {
            let each = stream::iter(problems).map(|problem| grader.grade(problem)).buffered(grader.workers.count);
            let results = each.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok([results.concat(), unreadable.clone()].concat())
        }
    }
}

/// Prints the results and writes the files that the options name. Returns the exit code.
fn write_results(
    options: &Options,
    work: &Work,
    results: &[SubmissionResult],
    workers: &Workers,
    elapsed: Duration,
) -> Result<u8, Failure> {
    let passed = results.iter().filter(|result| result.has_passed()).count();
    let pass_at_1 = matches!(work, Work::HumanEval(_)).then_some((passed, results.len()));
    let totals = table::totals(results, elapsed);
    print(&match pass_at_1 {
        // There are hundreds of attempts, so the table shows the failed ones alone.
        Some(_) => table::table(results.iter().filter(|result| !result.has_passed())),
        None => table::table(results),
    })?;
    for remark in table::remarks(results) {
        print(&format!("{remark}\n"))?;
    }
    if !workers.has_memory_groups {
        print("no control groups here: memory was limited for each process (see `cellblock doctor`)\n")?;
    }
    print(&format!("{totals}\n"))?;
    if let Some(path) = &options.json {
        write(path, format!("{:#}\n", table::json(results, pass_at_1)))?;
    }
    if let Some(path) = &options.report {
        write(path, page::page(results, &workers.spans(), &totals))?;
    }
    if let Some((passed, of)) = pass_at_1 {
        print(&format!("pass@1: {passed} of {of}\n"))?;
    }
    Ok(u8::from(!results.iter().all(|result| result.as_expected)))
}

/// Prints text, which may hold names and messages of submissions.
fn print(text: &str) -> io::Result<()> {
    crate::stdout::print(printable(text))
}

fn write(path: &Path, text: String) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
