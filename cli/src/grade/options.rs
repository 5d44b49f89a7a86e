//! The options of `cellblock grade`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::image::ImageOptions;

/// Grade the submissions of problem packages
///
/// Runs every submission of every problem package (Kattis/ICPC format, legacy or 2023-07) below a
/// folder in containers, and compares the verdicts with what the package expects.
///
/// The verdicts are AC accepted, WA wrong answer, TLE time limit exceeded, MLE memory limit
/// exceeded, OLE output limit exceeded, RTE run-time error, CE compile error and JE judge error. A
/// submission is skipped if this machine, or the image, has no tool for its language.
///
/// Not supported: scores, multi-pass and submit-answer problems, input validators, static
/// validators, visualizers and constants. `allow_file_writing` has no effect: a submission may
/// always write to its own directory.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Folders with problem packages
    #[arg(value_name = "FOLDER", required_unless_present = "humaneval", value_hint = ValueHint::DirPath)]
    pub folders: Vec<PathBuf>,
    /// Run the tasks of HumanEval instead: JSON lines, plain or .gz
    #[arg(long, value_name = "FILE", conflicts_with = "folders", value_hint = ValueHint::FilePath)]
    pub humaneval: Option<PathBuf>,
    /// Run these samples, not the canonical solutions
    ///
    /// The file has a line of JSON for each sample: {"task_id": …, "completion": …}.
    #[arg(
        long,
        value_name = "FILE",
        requires = "humaneval",
        conflicts_with = "folders",
        value_hint = ValueHint::FilePath
    )]
    pub samples: Option<PathBuf>,
    /// Use N containers at a time [default: one for each processor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    pub image: ImageOptions,
    /// Write all results to a file as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
    /// Write a page of HTML with the results and a timeline
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// Record finished cases in a file and skip those it has
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub resume: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cellblock grade problems/
  cellblock grade problems/ -j 4 --report report.html --resume journal
  cellblock grade --humaneval HumanEval.jsonl.gz --samples samples.jsonl

Exit code: 0 if everything is as expected, 1 if not, 2 if the arguments are
wrong or the input cannot be read, 125 if the containers failed. SIGINT and
SIGTERM end it at once with 128+n and leave nothing behind.";
