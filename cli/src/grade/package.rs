//! A problem package as it lies on the disk, in the legacy format or that of 2023-07.
//!
//! Invariant: reading a package runs nothing and changes nothing, and what is wrong with it is said with the file's name.
//! Test data stay on the disk; they are opened when a case is run.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::expect::{self, Rules, Submission};
use super::program::Source;
use super::timing::TimeRule;

/// A problem with its test data and submissions.
pub struct Problem {
    /// The name of its folder.
    pub name: String,
    pub limits: Limits,
    pub time: TimeRule,
    pub validation: Validation,
    /// In the order in which they are run.
    pub cases: Vec<Case>,
    pub submissions: Vec<Submission>,
    /// What becomes of a submission is unchanged only while this is.
    pub stamp: u64,
}

/// What a run, a compilation and a validation may use; sizes in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    pub memory: u64,
    pub output: u64,
    pub compilation_time: Duration,
    pub compilation_memory: u64,
    pub validation_time: Duration,
    pub validation_memory: u64,
}

/// How an output is judged.
pub enum Validation {
    /// By the default comparison; the flags are the case's.
    Default,
    /// By programs of the package's own, each of which must accept.
    Custom(Vec<Source>),
    /// By a program that talks to the submission.
    Interactive(Source),
}

/// One test case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its path below `data`, without the ending.
    pub name: String,
    pub input: PathBuf,
    /// An interactive problem may have none.
    pub answer: Option<PathBuf>,
    /// Files for the submission's directory.
    pub files: Option<PathBuf>,
    pub args: Vec<String>,
    pub validator_args: Vec<String>,
}

/// The folders with a `problem.yaml` at or below a path, in order.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.join("problem.yaml").is_file() {
        return Ok(vec![path.into()]);
    }
    let mut found = Vec::new();
    for entry in entries(path)?.iter().filter(|entry| entry.is_dir()) {
        found.extend(find(entry)?);
    }
    Ok(found)
}

/// What a problem is called: as its folder.
pub fn name(dir: &Path) -> String {
    let name = dir.canonicalize().ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| dir.display().to_string())
}

impl Problem {
    pub fn read(dir: &Path) -> Result<Self, String> {
        let meta: Meta = yaml(&dir.join("problem.yaml"))?;
        let limits = meta.limits.unwrap_or_default();
        let is_legacy = meta.problem_format_version.as_deref().is_none_or(|version| version.starts_with("legacy"));
        let types: Vec<String> = meta.types.map_or_else(Vec::new, Words::split);
        if let Some(kind) = types.iter().find(|kind| ["multi-pass", "submit-answer"].contains(&kind.as_str())) {
            return Err(format!("a {kind} problem, which this grader does not know"));
        }
        let words: Vec<_> = meta.validation.iter().flat_map(|words| words.split_whitespace()).collect();
        let is_interactive = words.contains(&"interactive") || types.iter().any(|kind| kind == "interactive");
        let flags = meta.validator_flags.or(meta.output_validator_flags).map_or_else(Vec::new, Words::split);
        let root = Group { args: Vec::new(), validator_args: flags.clone() };
        let mut cases = Vec::new();
        for part in ["sample", "secret"] {
            let group = root.inside(&dir.join("data"), &flags)?;
            if dir.join("data").join(part).is_dir() {
                read_group(&dir.join("data"), part, &group, &flags, &mut cases)?;
            }
        }
        if cases.is_empty() {
            return Err("no test case: put an .in and an .ans file into data/secret".into());
        }
        if let Some(case) = cases.iter().find(|case| case.answer.is_none() && !is_interactive) {
            return Err(format!("data/{}.ans is missing", case.name));
        }
        let rules = Rules::read(dir, is_legacy)?;
        let submissions = expect::submissions(dir, &rules)?;
        let validation = validation(dir, is_legacy, words.first() == Some(&"custom"), is_interactive)?;
        Ok(Self {
            name: name(dir),
            time: limits.time_rule(dir, is_legacy)?,
            limits: limits.limits(),
            validation,
            cases,
            submissions,
            stamp: stamp(dir),
        })
    }
}

/// `problem.yaml`, as far as it matters to a grader. Keys of either version are read; others are let be.
#[derive(Deserialize)]
struct Meta {
    problem_format_version: Option<String>,
    #[serde(rename = "type")]
    types: Option<Words>,
    limits: Option<MetaLimits>,
    validation: Option<String>,
    validator_flags: Option<Words>,
    output_validator_flags: Option<Words>,
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
    fn limits(&self) -> Limits {
        let mib = |size: Option<f64>, default: f64| (size.unwrap_or(default) * f64::from(1 << 20)) as u64;
        let seconds = |time: Option<f64>| Duration::from_secs_f64(time.unwrap_or(60.0).clamp(0.001, 1e6));
        Limits {
            memory: mib(self.memory, 2048.0),
            output: mib(self.output, 8.0),
            compilation_time: seconds(self.compilation_time),
            compilation_memory: mib(self.compilation_memory, 2048.0),
            validation_time: seconds(self.validation_time),
            validation_memory: mib(self.validation_memory, 2048.0),
        }
    }

    fn time_rule(&self, dir: &Path, is_legacy: bool) -> Result<TimeRule, String> {
        let (factor, margin) = match (&self.time_multipliers, is_legacy) {
            (None, true) => (self.time_multiplier.unwrap_or(5.0), self.time_safety_margin.unwrap_or(2.0)),
            (given, _) => {
                let given = given.as_ref();
                let factor = given.and_then(|given| given.ac_to_time_limit);
                (factor.unwrap_or(2.0), given.and_then(|given| given.time_limit_to_tle).unwrap_or(1.5))
            }
        };
        let beside = fs::read_to_string(dir.join(".timelimit")).ok();
        let beside = beside.map(|text| text.trim().parse().map_err(|_| ".timelimit holds no number of seconds"));
        let limit = match self.time_limit {
            Some(limit) => Some(limit),
            None => beside.transpose()?,
        };
        let positive = |name: &str, value: f64| {
            let is_sound = value > 0.0 && value < 1e6;
            if is_sound { Ok(value) } else { Err(format!("problem.yaml: {name} is {value}; give a number above 0")) }
        };
        let margin = positive("the safety margin", margin)?.max(1.0);
        Ok(match limit {
            Some(limit) => TimeRule::Given { limit: Duration::from_secs_f64(positive("time_limit", limit)?), margin },
            None => TimeRule::Measured {
                factor: positive("the time multiplier", factor)?,
                resolution: Duration::from_secs_f64(positive("time_resolution", self.time_resolution.unwrap_or(1.0))?),
                margin,
            },
        })
    }
}

/// Words as the formats have them: a line of them, or a list.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Words {
    Line(Word),
    List(Vec<Word>),
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(serde_yaml_ng::Number),
}

impl Words {
    fn split(self) -> Vec<String> {
        match self {
            Self::Line(line) => line.text().split_whitespace().map(String::from).collect(),
            Self::List(words) => words.into_iter().map(Word::text).collect(),
        }
    }
}

impl Word {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What a group of test data, or a case, hands down.
#[derive(Clone, Default)]
struct Group {
    args: Vec<String>,
    validator_args: Vec<String>,
}

/// `testdata.yaml`, `test_group.yaml`, or the file of a single case.
#[derive(Default, Deserialize)]
struct GroupMeta {
    args: Option<Words>,
    output_validator_args: Option<Words>,
    output_validator_flags: Option<Flags>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Flags {
    Words(Words),
    Named { flags: Words },
}

impl Group {
    /// The settings of a folder within one with these.
    fn inside(&self, dir: &Path, flags: &[String]) -> Result<Self, String> {
        let files = ["test_group.yaml", "testdata.yaml"].map(|name| dir.join(name));
        match files.iter().find(|file| file.is_file()) {
            Some(file) => self.with(file, flags),
            None => Ok(self.clone()),
        }
    }

    /// What a file says in the place of these; the problem's own flags stay before those of legacy groups.
    fn with(&self, file: &Path, flags: &[String]) -> Result<Self, String> {
        let meta: GroupMeta = yaml(file)?;
        let legacy = meta.output_validator_flags.map(|given| match given {
            Flags::Words(words) | Flags::Named { flags: words } => [flags, &words.split()].concat(),
        });
        let args = meta.output_validator_args.map(Words::split).or(legacy);
        Ok(Self {
            args: meta.args.map_or_else(|| self.args.clone(), Words::split),
            validator_args: args.unwrap_or_else(|| self.validator_args.clone()),
        })
    }
}

fn read_group(data: &Path, name: &str, around: &Group, flags: &[String], cases: &mut Vec<Case>) -> Result<(), String> {
    let dir = data.join(name);
    let group = around.inside(&dir, flags)?;
    for path in entries(&dir)? {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let name = format!("{name}/{stem}");
        let beside = |ending: &str| Some(path.with_file_name(format!("{stem}.{ending}"))).filter(|path| path.exists());
        if path.extension().is_some_and(|ending| ending == "in") && path.is_file() {
            let settings = beside("yaml").map_or_else(|| Ok(group.clone()), |file| group.with(&file, flags))?;
            let Group { args, validator_args } = settings;
            let (answer, files) = (beside("ans"), beside("files"));
            cases.push(Case { name, input: path, answer, files, args, validator_args });
        } else if path.is_dir() && path.extension().is_none() {
            read_group(data, &name, &group, flags, cases)?;
        }
    }
    Ok(())
}

fn validation(dir: &Path, is_legacy: bool, is_custom: bool, is_interactive: bool) -> Result<Validation, String> {
    let mut programs = Vec::new();
    if dir.join("output_validator").is_dir() {
        programs.push(Source::read(&only_folder(dir.join("output_validator"))?)?);
    } else if dir.join("output_validators").is_dir() {
        for path in entries(&dir.join("output_validators"))? {
            programs.extend(Some(Source::read(&path)?).filter(Source::is_program));
        }
    }
    match (is_interactive, programs.len()) {
        (true, 1) => Ok(Validation::Interactive(programs.remove(0))),
        (true, _) => Err("an interactive problem needs one validator, in output_validator/".into()),
        (false, 0) if is_custom => Err("custom validation needs a validator, in output_validators/".into()),
        (false, 0) => Ok(Validation::Default),
        // A legacy package may bring a validator and say that it is not used.
        (false, _) if is_legacy && !is_custom => Ok(Validation::Default),
        (false, _) => Ok(Validation::Custom(programs)),
    }
}

/// A folder that holds nothing but another stands for that.
fn only_folder(dir: PathBuf) -> Result<PathBuf, String> {
    match entries(&dir)?.as_slice() {
        [inner] if inner.is_dir() => Ok(inner.clone()),
        _ => Ok(dir),
    }
}

/// What is in a folder, by name; what begins with a dot is nobody's.
pub fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failure = |error| format!("{}: {error}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failure)? {
        let entry = entry.map_err(failure)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A YAML file; an empty one has nothing set.
pub fn yaml<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let failure = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failure(&error))?;
    let text = if text.trim().is_empty() { "{}" } else { &text };
    serde_yaml_ng::from_str(text).map_err(|error| failure(&error))
}

/// A number that changes with what a package judges by, told by the files' names, sizes and times.
fn stamp(dir: &Path) -> u64 {
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
