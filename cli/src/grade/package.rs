//! A problem package on the disk, in the legacy format or that of 2023-07.
//!
//! Invariant: reading a package runs nothing and changes nothing.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::expectation::{Submission, read_submissions};
use super::files::{Origin, entries, read_yaml};
use super::limits::ProblemLimits;
use super::source::Source;
use super::test_data::{Arguments, Case, read_cases};
use super::timing::TimeRule;

/// A problem with its test data and submissions.
pub struct Problem {
    /// The name of its folder.
    pub name: String,
    pub limits: ProblemLimits,
    pub time: TimeRule,
    pub validation: Validation,
    /// In the order in which they run.
    pub cases: Vec<Case>,
    pub submissions: Vec<Submission>,
    /// A number that changes with everything but the submissions: see [`fingerprint`].
    pub fingerprint: u64,
}

/// How the output of a submission is judged.
pub enum Validation {
    /// By the default comparison, with the flags of each case.
    Default,
    /// By programs of the package, all of which must accept.
    Custom(Vec<Source>),
    /// By a program that talks to the submission.
    Interactive(Source),
}

/// Finds the folders with a `problem.yaml` at or below a path, sorted.
pub fn find_packages(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.join("problem.yaml").is_file() {
        return Ok(vec![path.into()]);
    }
    let mut found = Vec::new();
    let real = path.canonicalize().unwrap_or_else(|_| path.into());
    // A link to a folder above would be followed without end.
    let is_loop = |entry: &PathBuf| entry.canonicalize().is_ok_and(|target| real.starts_with(target));
    for entry in entries(path)?.iter().filter(|entry| entry.is_dir() && !is_loop(entry)) {
        found.extend(find_packages(entry)?);
    }
    Ok(found)
}

/// The name of a problem: that of its folder.
pub fn name(dir: &Path) -> String {
    let name = dir.canonicalize().ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| dir.display().to_string())
}

impl Problem {
    pub fn read(dir: &Path) -> Result<Self, String> {
        let meta: Meta = read_yaml(&dir.join("problem.yaml"))?;
        let is_legacy = meta.is_legacy();
        let types = meta.types.map_or_else(Vec::new, Arguments::split);
        if let Some(kind) = types.iter().find(|kind| ["multi-pass", "submit-answer"].contains(&kind.as_str())) {
            return Err(format!("a {kind} problem, which is not supported"));
        }
        let validation: Vec<_> = meta.validation.iter().flat_map(|words| words.split_whitespace()).collect();
        let is_custom = validation.first() == Some(&"custom");
        let is_interactive = validation.contains(&"interactive") || types.iter().any(|kind| kind == "interactive");
        let flags = meta.validator_flags.or(meta.output_validator_flags).map_or_else(Vec::new, Arguments::split);
        let cases = read_cases(dir, &flags)?;
        if let Some(case) = cases.iter().find(|case| case.answer.is_none() && !is_interactive) {
            return Err(format!("data/{}.ans is missing", case.name));
        }
        let submissions = read_submissions(dir, is_legacy)?;
        let validation = Validation::read(dir, is_legacy, is_custom, is_interactive)?;
        let limits = meta.limits.unwrap_or_default();
        Ok(Self {
            name: name(dir),
            time: limits.time_rule(dir, is_legacy)?,
            limits: limits.limits(),
            validation,
            cases,
            submissions,
            fingerprint: fingerprint(dir),
        })
    }

    pub fn is_interactive(&self) -> bool {
        matches!(self.validation, Validation::Interactive(_))
    }
}

impl Validation {
    fn read(dir: &Path, is_legacy: bool, is_custom: bool, is_interactive: bool) -> Result<Self, String> {
        let mut programs = Vec::new();
        if dir.join("output_validator").is_dir() {
            programs.push(Source::read(&skip_single_folder(dir.join("output_validator"))?, Origin::Package)?);
        } else if dir.join("output_validators").is_dir() {
            for path in entries(&dir.join("output_validators"))? {
                programs.extend(Some(Source::read(&path, Origin::Package)?).filter(Source::is_program));
            }
        }
        match (is_interactive, programs.len()) {
            (true, 1) => Ok(Self::Interactive(programs.remove(0))),
            (true, _) => Err("an interactive problem needs one validator, in output_validator/".into()),
            (false, 0) if is_custom => Err("custom validation needs a validator, in output_validators/".into()),
            (false, 0) => Ok(Self::Default),
            // A legacy package uses its validators only if it says so.
            (false, _) if is_legacy && !is_custom => Ok(Self::Default),
            (false, _) => Ok(Self::Custom(programs)),
        }
    }
}

/// The keys of `problem.yaml` that a grader needs, of both formats. Others are ignored.
#[derive(Deserialize)]
struct Meta {
    problem_format_version: Option<String>,
    #[serde(rename = "type")]
    types: Option<Arguments>,
    limits: Option<MetaLimits>,
    validation: Option<String>,
    validator_flags: Option<Arguments>,
    output_validator_flags: Option<Arguments>,
}

impl Meta {
    fn is_legacy(&self) -> bool {
        self.problem_format_version.as_deref().is_none_or(|version| version.starts_with("legacy"))
    }
}

#[derive(Default, Deserialize)]
struct MetaLimits {
    time_limit: Option<f64>,
    time_resolution: Option<f64>,
    time_multipliers: Option<Multipliers>,
    time_multiplier: Option<f64>,
    time_safety_margin: Option<f64>,
    memory: Option<f64>,
    output: Option<f64>,
    compilation_time: Option<f64>,
    compilation_memory: Option<f64>,
    validation_time: Option<f64>,
    validation_memory: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Multipliers {
    ac_to_time_limit: Option<f64>,
    time_limit_to_tle: Option<f64>,
}

impl MetaLimits {
    fn limits(&self) -> ProblemLimits {
        let mib = |size: Option<f64>, default: f64| (size.unwrap_or(default) * f64::from(1 << 20)) as u64;
        let seconds = |time: Option<f64>| Duration::from_secs_f64(time.unwrap_or(60.0).clamp(0.001, 1e6));
        ProblemLimits {
            memory: mib(self.memory, 2048.0),
            output: mib(self.output, 8.0),
            compilation_time: seconds(self.compilation_time),
            compilation_memory: mib(self.compilation_memory, 2048.0),
            validation_time: seconds(self.validation_time),
            validation_memory: mib(self.validation_memory, 2048.0),
        }
    }

    fn time_rule(&self, dir: &Path, is_legacy: bool) -> Result<TimeRule, String> {
        let (factor, margin) = self.factor_and_margin(is_legacy);
        let margin = positive("the safety margin", margin)?.max(1.0);
        let limit = match self.time_limit {
            Some(limit) => Some(limit),
            None => legacy_time_limit(dir)?,
        };
        Ok(match limit {
            Some(limit) => TimeRule::Given { limit: Duration::from_secs_f64(positive("time_limit", limit)?), margin },
            None => TimeRule::Measured {
                factor: positive("the time multiplier", factor)?,
                resolution: Duration::from_secs_f64(positive("time_resolution", self.time_resolution.unwrap_or(1.0))?),
                margin,
            },
        })
    }

    fn factor_and_margin(&self, is_legacy: bool) -> (f64, f64) {
        match &self.time_multipliers {
            Some(given) => (given.ac_to_time_limit.unwrap_or(2.0), given.time_limit_to_tle.unwrap_or(1.5)),
            None if is_legacy => (self.time_multiplier.unwrap_or(5.0), self.time_safety_margin.unwrap_or(2.0)),
            None => (2.0, 1.5),
        }
    }
}

/// The time limit in `.timelimit`, which some legacy packages have.
fn legacy_time_limit(dir: &Path) -> Result<Option<f64>, String> {
    let Ok(text) = fs::read_to_string(dir.join(".timelimit")) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| ".timelimit is not a number of seconds".into())
}

fn positive(name: &str, value: f64) -> Result<f64, String> {
    let is_valid = value > 0.0 && value < 1e6;
    if is_valid { Ok(value) } else { Err(format!("problem.yaml: {name} is {value}; give a number above 0")) }
}

/// Returns the folder inside, if a folder has nothing else.
fn skip_single_folder(dir: PathBuf) -> Result<PathBuf, String> {
    match entries(&dir)?.as_slice() {
        [inner] if inner.is_dir() => Ok(inner.clone()),
        _ => Ok(dir),
    }
}

/// A number that changes with the test data, the settings and the validators of a package. It is
/// made of the names, sizes and modification times of the files.
fn fingerprint(dir: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut paths: Vec<_> =
        ["problem.yaml", "data", "output_validator", "output_validators"].map(|name| dir.join(name)).into();
    while let Some(path) = paths.pop() {
        let Ok(meta) = path.metadata() else { continue };
        if meta.is_dir() {
            paths.extend(entries(&path).unwrap_or_default());
        } else {
            (&path, meta.len(), meta.modified().ok()).hash(&mut hasher);
        }
    }
    hasher.finish()
}
