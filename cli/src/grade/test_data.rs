//! The test cases of a package.
//!
//! Invariant: a case refers to its files. They stay on the disk and are opened when the case runs.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{entries, read_yaml};

/// A test case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its path below `data`, without the extension.
    pub name: String,
    pub input: PathBuf,
    /// A case of an interactive problem may have none.
    pub answer: Option<PathBuf>,
    /// A folder of files for the directory of the submission.
    pub files: Option<PathBuf>,
    pub args: Vec<String>,
    pub validator_args: Vec<String>,
}

/// Reads the cases of a package in the order in which they run. `flags` are the validator's
/// arguments from `problem.yaml`.
pub fn read_cases(dir: &Path, flags: &[String]) -> Result<Vec<Case>, String> {
    let data = dir.join("data");
    let mut cases = Vec::new();
    for part in ["sample", "secret"].into_iter().filter(|part| data.join(part).is_dir()) {
        let settings = GroupSettings { args: Vec::new(), validator_args: flags.into() }.inside(&data, flags)?;
        read_group(&data, part, &settings, flags, &mut cases)?;
    }
    if cases.is_empty() {
        return Err("no test case: put an .in and an .ans file into data/secret".into());
    }
    Ok(cases)
}

/// Arguments as the package formats have them: a line, or a list.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Arguments {
    Line(Argument),
    List(Vec<Argument>),
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    Text(String),
    Number(serde_yaml_ng::Number),
}

impl Arguments {
    pub fn split(self) -> Vec<String> {
        match self {
            Self::Line(line) => line.text().split_whitespace().map(String::from).collect(),
            Self::List(arguments) => arguments.into_iter().map(Argument::text).collect(),
        }
    }
}

impl Argument {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The settings of a group of cases. Groups and cases inside it inherit them.
#[derive(Clone)]
struct GroupSettings {
    args: Vec<String>,
    validator_args: Vec<String>,
}

/// `testdata.yaml`, `test_group.yaml`, or the file of a single case.
#[derive(Default, Deserialize)]
struct GroupMeta {
    args: Option<Arguments>,
    output_validator_args: Option<Arguments>,
    output_validator_flags: Option<LegacyFlags>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LegacyFlags {
    Arguments(Arguments),
    Named { flags: Arguments },
}

impl GroupSettings {
    /// The settings of a folder in this group.
    fn inside(&self, dir: &Path, flags: &[String]) -> Result<Self, String> {
        let files = ["test_group.yaml", "testdata.yaml"].map(|name| dir.join(name));
        match files.iter().find(|file| file.is_file()) {
            Some(file) => self.with(file, flags),
            None => Ok(self.clone()),
        }
    }

    /// These settings with the changes of a file. Flags of a legacy group follow those of the
    /// problem.
    fn with(&self, file: &Path, flags: &[String]) -> Result<Self, String> {
        let meta: GroupMeta = read_yaml(file)?;
        let legacy = meta.output_validator_flags.map(|given| match given {
            LegacyFlags::Arguments(own) | LegacyFlags::Named { flags: own } => [flags, &own.split()].concat(),
        });
        let validator_args = meta.output_validator_args.map(Arguments::split).or(legacy);
        Ok(Self {
            args: meta.args.map_or_else(|| self.args.clone(), Arguments::split),
            validator_args: validator_args.unwrap_or_else(|| self.validator_args.clone()),
        })
    }
}

fn read_group(
    data: &Path,
    name: &str,
    outer: &GroupSettings,
    flags: &[String],
    cases: &mut Vec<Case>,
) -> Result<(), String> {
    let dir = data.join(name);
    let group = outer.inside(&dir, flags)?;
    for path in entries(&dir)? {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let name = format!("{name}/{stem}");
        let beside = |extension: &str| Some(dir.join(format!("{stem}.{extension}"))).filter(|path| path.exists());
        if path.extension().is_some_and(|extension| extension == "in") && path.is_file() {
            let settings = beside("yaml").map_or_else(|| Ok(group.clone()), |file| group.with(&file, flags))?;
            let GroupSettings { args, validator_args } = settings;
            let (answer, files) = (beside("ans"), beside("files"));
            cases.push(Case { name, input: path, answer, files, args, validator_args });
        } else if path.is_dir() && path.extension().is_none() {
            read_group(data, &name, &group, flags, cases)?;
        }
    }
    Ok(())
}
