//! What a package expects of its submissions: by the folder each is in, and by `submissions.yaml`.
//!
//! Invariant: an expectation is a list of rules, each about some of the cases, and all must hold. Nothing else decides
//! whether a submission is as expected.

use std::path::Path;

use serde::Deserialize;
use serde_yaml_ng::{Mapping, Value};

use super::package::{entries, yaml};
use super::program::Source;
use super::verdict::{JudgedCase, Outcome};
use Outcome::{Ac, Rte, Tle, Wa};

/// A submission, and what is expected of it.
pub struct Submission {
    /// Its path below `submissions`.
    pub name: String,
    pub source: Source,
    pub rules: Vec<Rule>,
    /// A folder for what does not compile.
    pub is_broken: bool,
}

/// What must be so of some cases.
#[derive(Clone, Debug)]
pub struct Rule {
    /// A pattern for the names of cases or their groups.
    cases: Option<String>,
    permitted: Vec<Outcome>,
    required: Vec<Outcome>,
    message: String,
    bounds_time: bool,
}

const ANY: [Outcome; 4] = [Ac, Wa, Tle, Rte];

impl Submission {
    /// What is expected, in a few words.
    pub fn expected(&self) -> String {
        let words = self.rules.iter().map(Rule::in_short).filter(|words| !words.is_empty());
        let words = if self.is_broken { vec!["CE".into()] } else { words.collect::<Vec<_>>() };
        if words.is_empty() { "any".into() } else { words.join("; ") }
    }

    pub fn is_met_by(&self, cases: &[JudgedCase]) -> bool {
        let is_judged = cases.iter().all(|case| case.result.verdict.outcome().is_some());
        is_judged && !self.is_broken && self.rules.iter().all(|rule| rule.is_met_by(cases))
    }

    /// Whether the time limit must leave it alone, so that its own time says how long that must be.
    pub fn bounds_time_below(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds_time && !rule.permitted.contains(&Tle))
    }

    /// Whether it must be too slow.
    pub fn bounds_time_above(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds_time && rule.required == [Tle])
    }
}

impl Rule {
    fn new(permitted: &[Outcome], required: &[Outcome]) -> Self {
        let (permitted, required) = (permitted.into(), required.into());
        Self { cases: None, permitted, required, message: String::new(), bounds_time: true }
    }

    fn is_met_by(&self, cases: &[JudgedCase]) -> bool {
        let mine: Vec<_> = cases.iter().filter(|case| self.is_about(&case.name)).collect();
        let is_in = |set: &[Outcome], case: &&&JudgedCase| {
            case.result.verdict.outcome().is_some_and(|outcome| set.contains(&outcome))
        };
        mine.iter().all(|case| is_in(&self.permitted, &case))
            && (mine.is_empty() || mine.iter().any(|case| is_in(&self.required, &case)))
            && (self.message.is_empty() || mine.iter().any(|case| case.result.message.contains(&self.message)))
    }

    fn is_about(&self, case: &str) -> bool {
        self.cases.as_ref().is_none_or(|pattern| is_at_or_above(pattern, case))
    }

    fn in_short(&self) -> String {
        let words = |set: &[Outcome]| set.iter().map(Outcome::to_string).collect::<Vec<_>>().join(" or ");
        let what = match (self.permitted.as_slice(), self.required.as_slice()) {
            (permitted, required) if permitted == ANY && required == ANY => return String::new(),
            ([only], _) => only.to_string(),
            (_, required) if required != ANY => words(required),
            (permitted, _) => words(permitted),
        };
        match &self.cases {
            Some(cases) => format!("{what} on {cases}"),
            None => what,
        }
    }
}

/// The rules of a package, each for the submissions that a pattern names.
pub struct Rules(Vec<(String, Settings)>);

#[derive(Clone, Default)]
struct Settings {
    rules: Vec<Rule>,
    language: Option<String>,
    entry_point: Option<String>,
}

#[derive(Deserialize)]
struct RuleMeta {
    permitted: Option<Vec<Outcome>>,
    required: Option<Vec<Outcome>>,
    #[serde(default)]
    message: String,
    use_for_time_limit: Option<Value>,
    language: Option<String>,
    entrypoint: Option<String>,
}

/// What the folders' names mean. The older format lets a slow submission be wrong too, and a crashing one anything.
fn folders(is_legacy: bool) -> Vec<(&'static str, Rule)> {
    let slow: &[Outcome] = if is_legacy { &[Ac, Wa, Tle] } else { &[Ac, Tle] };
    let crashing: &[Outcome] = if is_legacy { &ANY } else { &[Ac, Rte] };
    let brute = Rule { bounds_time: false, ..Rule::new(&[Ac, Rte, Tle], &[Rte, Tle]) };
    vec![
        ("accepted", Rule::new(&[Ac], &ANY)),
        ("rejected", Rule::new(&ANY, &[Wa, Tle, Rte])),
        ("wrong_answer", Rule { bounds_time: !is_legacy, ..Rule::new(&[Ac, Wa], &[Wa]) }),
        ("time_limit_exceeded", Rule::new(slow, &[Tle])),
        ("run_time_error", Rule { bounds_time: !is_legacy, ..Rule::new(crashing, &[Rte]) }),
        ("memory_limit_exceeded", Rule { bounds_time: false, ..Rule::new(&ANY, &[Rte]) }),
        ("output_limit_exceeded", Rule { bounds_time: false, ..Rule::new(&ANY, &[Rte]) }),
        ("brute_force", brute),
        ("partially_accepted", Rule { bounds_time: false, ..Rule::new(&ANY, &[Ac]) }),
    ]
}

impl Rules {
    pub fn read(dir: &Path, is_legacy: bool) -> Result<Self, String> {
        let only = |rule: Rule| Settings { rules: vec![rule], ..Settings::default() };
        let mut rules: Vec<_> =
            folders(is_legacy).into_iter().map(|(name, rule)| (name.to_owned(), only(rule))).collect();
        let file = dir.join("submissions/submissions.yaml");
        if !file.is_file() {
            return Ok(Self(rules));
        }
        let given: Mapping = yaml(&file)?;
        for (pattern, value) in given {
            let failure = |error: String| format!("{}: {error}", file.display());
            let pattern = pattern.as_str().ok_or_else(|| failure(format!("{pattern:?} is no pattern")))?.to_owned();
            let default = rules.iter().find(|(name, _)| *name == pattern).and_then(|(_, it)| it.rules.first().cloned());
            let settings = settings(&value, default.as_ref()).map_err(failure)?;
            // The name of a folder replaces what it means by default; any other pattern adds to that.
            if default.is_some() {
                rules.retain(|(name, _)| *name != pattern);
            }
            rules.push((pattern, settings));
        }
        Ok(Self(rules))
    }

    fn of(&self, submission: &str) -> Settings {
        let mut all = Settings::default();
        for (_, settings) in self.0.iter().filter(|(pattern, _)| is_at_or_above(pattern, submission)) {
            all.rules.extend(settings.rules.iter().cloned());
            all.language = settings.language.clone().or(all.language);
            all.entry_point = settings.entry_point.clone().or(all.entry_point);
        }
        all
    }
}

/// What a pattern's value says: a rule for all cases, and rules for groups of them, under keys that name none of a rule's.
fn settings(value: &Value, default: Option<&Rule>) -> Result<Settings, String> {
    let read = |value: &Value| serde_yaml_ng::from_value::<RuleMeta>(value.clone()).map_err(|error| error.to_string());
    let meta = read(value)?;
    let mut settings =
        Settings { language: meta.language.clone(), entry_point: meta.entrypoint.clone(), rules: vec![] };
    settings.rules.push(rule(meta, None, default));
    for (key, value) in value.as_mapping().into_iter().flatten() {
        // An author may be a map too; a group is one of the data's.
        let group = key.as_str().filter(|key| key.starts_with("sample") || key.starts_with("secret"));
        if let Some(group) = group.filter(|_| value.is_mapping()) {
            settings.rules.push(rule(read(value)?, Some(group.into()), None));
        }
    }
    Ok(settings)
}

fn rule(meta: RuleMeta, cases: Option<String>, default: Option<&Rule>) -> Rule {
    let any = Rule::new(&ANY, &ANY);
    let default = default.unwrap_or(&any);
    let lower = meta.use_for_time_limit.as_ref().and_then(Value::as_str) == Some("lower");
    let permitted = meta.permitted.unwrap_or_else(|| default.permitted.clone());
    Rule {
        cases,
        permitted: if lower { permitted.into_iter().filter(|it| *it != Tle).collect() } else { permitted },
        required: meta.required.unwrap_or_else(|| default.required.clone()),
        message: meta.message,
        bounds_time: meta.use_for_time_limit.map_or(default.bounds_time, |use_it| use_it.as_bool() != Some(false)),
    }
}

/// The submissions of a package, with their rules, in order.
pub fn submissions(dir: &Path, rules: &Rules) -> Result<Vec<Submission>, String> {
    let root = dir.join("submissions");
    let mut found = Vec::new();
    for folder in entries(&root)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&folder)? {
            found.extend(submission(dir, &root, &path, rules)?);
        }
    }
    if found.is_empty() {
        return Err("no submission: put one into submissions/accepted".into());
    }
    Ok(found)
}

fn submission(dir: &Path, root: &Path, path: &Path, rules: &Rules) -> Result<Option<Submission>, String> {
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let Settings { rules, language, entry_point } = rules.of(&name);
    let mut source = Source::read(path)?;
    source.say(language, entry_point);
    if !source.is_program() && !path.is_dir() && source.has_no_ending() {
        return Ok(None);
    }
    source.include(&dir.join("include"))?;
    let is_broken = ["compile_error", "compiler_error"].iter().any(|folder| name.starts_with(folder));
    Ok(Some(Submission { name, source, rules, is_broken }))
}

/// Whether a pattern names this path, or a folder that it is in.
fn is_at_or_above(pattern: &str, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| &path[..end]).any(|path| fast_glob::glob_match(pattern, path))
}
