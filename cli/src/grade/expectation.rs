//! What a package expects of its submissions, by their folders and by `submissions.yaml`.
//!
//! Invariant: an expectation is a list of rules, each about some of the cases. A submission is as
//! expected if and only if every rule is met.

use std::path::Path;

use serde::Deserialize;
use serde_yaml_ng::{Mapping, Value};

use super::files::{Origin, entries, read_yaml};
use super::languages::Language;
use super::result::{JudgedCase, Outcome};
use super::source::Source;
use Outcome::{Ac, Rte, Tle, Wa};

const ANY: [Outcome; 4] = [Ac, Wa, Tle, Rte];

/// A submission, and what is expected of it.
pub struct Submission {
    /// Its path below `submissions`.
    pub name: String,
    /// An error is the reason why it cannot be read. It concerns this submission alone.
    pub source: Result<Source, String>,
    pub rules: Vec<Rule>,
    /// Whether it is expected not to compile.
    pub must_not_compile: bool,
}

/// Reads the submissions of a package with their rules, in the order of their names.
pub fn read_submissions(dir: &Path, is_legacy: bool) -> Result<Vec<Submission>, String> {
    let rules = Rules::read(dir, is_legacy)?;
    let root = dir.join("submissions");
    let mut found = Vec::new();
    for folder in entries(&root)? {
        match kind_of(&folder) {
            Kind::Link => found.push(Submission::unreadable(&root, &folder, &rules, "a symbolic link")),
            Kind::Folder => {
                for path in entries(&folder)? {
                    found.extend(Submission::read(dir, &root, &path, &rules)?);
                }
            }
            Kind::Other => {}
        }
    }
    if found.is_empty() {
        return Err("no submission: put one into submissions/accepted".into());
    }
    Ok(found)
}

/// The name of a submission.
fn name_below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[derive(PartialEq, Eq)]
enum Kind {
    Folder,
    Link,
    Other,
}

fn kind_of(path: &Path) -> Kind {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Kind::Folder,
        Ok(meta) if meta.is_symlink() => Kind::Link,
        _ => Kind::Other,
    }
}

impl Submission {
    /// Reads a submission. Returns `None` for a file that is not one, such as a `README`.
    fn read(dir: &Path, root: &Path, path: &Path, rules: &Rules) -> Result<Option<Self>, String> {
        let mut source = match Source::read(path, Origin::Submission) {
            Ok(source) => source,
            Err(why) => return Ok(Some(Self::unreadable(root, path, rules, &why))),
        };
        let Settings { language, entry_point, .. } = rules.of(&name_below(root, path));
        source.declare(language, entry_point);
        if !source.is_program() && kind_of(path) != Kind::Folder && path.extension().is_none() {
            return Ok(None);
        }
        source.include(&dir.join("include"))?;
        Ok(Some(Self::new(root, path, rules, Ok(source))))
    }

    fn unreadable(root: &Path, path: &Path, rules: &Rules, why: &str) -> Self {
        Self::new(root, path, rules, Err(why.into()))
    }

    fn new(root: &Path, path: &Path, rules: &Rules, source: Result<Source, String>) -> Self {
        let name = name_below(root, path);
        let must_not_compile = ["compile_error", "compiler_error"].iter().any(|folder| name.starts_with(folder));
        Self { rules: rules.of(&name).rules, name, source, must_not_compile }
    }

    pub fn language(&self) -> Result<&'static Language, String> {
        self.source.as_ref().map_err(String::clone)?.language()
    }

    /// What is expected, in a few words.
    pub fn expected(&self) -> String {
        if self.must_not_compile {
            return "CE".into();
        }
        let rules: Vec<_> = self.rules.iter().map(Rule::summary).filter(|words| !words.is_empty()).collect();
        if rules.is_empty() { "any".into() } else { rules.join("; ") }
    }

    /// Whether the results of its cases are as expected.
    pub fn is_met_by(&self, cases: &[JudgedCase]) -> bool {
        let is_judged = cases.iter().all(|case| case.result.verdict.outcome().is_some());
        is_judged && !self.must_not_compile && self.rules.iter().all(|rule| rule.is_met_by(cases))
    }

    /// Whether the time limit must let it pass, so that its own time is a lower bound of the limit.
    pub fn is_lower_bound(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds_time && !rule.permitted.contains(&Tle))
    }

    /// Whether it must exceed the time limit, so that its own time is an upper bound of the limit.
    pub fn is_upper_bound(&self) -> bool {
        self.rules.iter().any(|rule| rule.bounds_time && rule.required == [Tle])
    }
}

/// A condition on some of the cases.
#[derive(Clone, Debug)]
pub struct Rule {
    /// A pattern for the names of cases or of their groups. Without one it is about all cases.
    cases: Option<String>,
    /// The outcomes that each case may have.
    permitted: Vec<Outcome>,
    /// The outcomes of which at least one case must have one.
    required: Vec<Outcome>,
    /// A text that the message of at least one case must contain.
    message: String,
    bounds_time: bool,
}

impl Rule {
    fn new(permitted: &[Outcome], required: &[Outcome]) -> Self {
        let (permitted, required) = (permitted.into(), required.into());
        Self { cases: None, permitted, required, message: String::new(), bounds_time: true }
    }

    /// The same rule, of no account for the time limit.
    fn without_time(self) -> Self {
        Self { bounds_time: false, ..self }
    }

    /// A rule as `submissions.yaml` has it. What it leaves out is as in `default`.
    fn from_meta(meta: RuleMeta, cases: Option<String>, default: Option<&Self>) -> Self {
        let any = Self::new(&ANY, &ANY);
        let default = default.unwrap_or(&any);
        let is_lower = meta.use_for_time_limit.as_ref().and_then(Value::as_str) == Some("lower");
        let permitted = meta.permitted.unwrap_or_else(|| default.permitted.clone());
        Self {
            cases,
            permitted: if is_lower { permitted.into_iter().filter(|it| *it != Tle).collect() } else { permitted },
            required: meta.required.unwrap_or_else(|| default.required.clone()),
            message: meta.message,
            bounds_time: meta.use_for_time_limit.map_or(default.bounds_time, |value| value.as_bool() != Some(false)),
        }
    }

    fn is_met_by(&self, cases: &[JudgedCase]) -> bool {
        let cases: Vec<_> = cases.iter().filter(|case| self.is_about(&case.name)).collect();
        let is_in = |outcomes: &[Outcome], case: &JudgedCase| {
            case.result.verdict.outcome().is_some_and(|outcome| outcomes.contains(&outcome))
        };
        cases.iter().all(|case| is_in(&self.permitted, case))
            && (cases.is_empty() || cases.iter().any(|case| is_in(&self.required, case)))
            && (self.message.is_empty() || cases.iter().any(|case| case.result.message.contains(&self.message)))
    }

    fn is_about(&self, case: &str) -> bool {
        self.cases.as_ref().is_none_or(|pattern| is_at_or_above(pattern, case))
    }

    /// The rule in a few words. Empty if it permits everything.
    fn summary(&self) -> String {
        let join = |set: &[Outcome]| set.iter().map(Outcome::to_string).collect::<Vec<_>>().join(" or ");
        let outcomes = match (self.permitted.as_slice(), self.required.as_slice()) {
            (permitted, required) if permitted == ANY && required == ANY => return String::new(),
            ([only], _) => only.to_string(),
            (_, required) if required != ANY => join(required),
            (permitted, _) => join(permitted),
        };
        match &self.cases {
            Some(cases) => format!("{outcomes} on {cases}"),
            None => outcomes,
        }
    }
}

/// The settings of a package, each for the submissions that a pattern matches.
struct Rules(Vec<(String, Settings)>);

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

/// The meaning of the folders. In the legacy format a slow submission may also be wrong, and a
/// crashing one may have any outcome.
fn folders(is_legacy: bool) -> Vec<(&'static str, Rule)> {
    let slow: &[Outcome] = if is_legacy { &[Ac, Wa, Tle] } else { &[Ac, Tle] };
    let crashing: &[Outcome] = if is_legacy { &ANY } else { &[Ac, Rte] };
    vec![
        ("accepted", Rule::new(&[Ac], &ANY)),
        ("rejected", Rule::new(&ANY, &[Wa, Tle, Rte])),
        ("wrong_answer", Rule { bounds_time: !is_legacy, ..Rule::new(&[Ac, Wa], &[Wa]) }),
        ("time_limit_exceeded", Rule::new(slow, &[Tle])),
        ("run_time_error", Rule { bounds_time: !is_legacy, ..Rule::new(crashing, &[Rte]) }),
        ("memory_limit_exceeded", Rule::new(&ANY, &[Rte]).without_time()),
        ("output_limit_exceeded", Rule::new(&ANY, &[Rte]).without_time()),
        ("brute_force", Rule::new(&[Ac, Rte, Tle], &[Rte, Tle]).without_time()),
        ("partially_accepted", Rule::new(&ANY, &[Ac]).without_time()),
    ]
}

impl Rules {
    fn read(dir: &Path, is_legacy: bool) -> Result<Self, String> {
        let settings = |rule: Rule| Settings { rules: vec![rule], ..Settings::default() };
        let folders = folders(is_legacy).into_iter();
        let mut rules: Vec<_> = folders.map(|(name, rule)| (name.to_owned(), settings(rule))).collect();
        let file = dir.join("submissions/submissions.yaml");
        if !file.is_file() {
            return Ok(Self(rules));
        }
        let failure = |error: String| format!("{}: {error}", file.display());
        for (pattern, value) in read_yaml::<Mapping>(&file)? {
            let pattern = pattern.as_str().ok_or_else(|| failure(format!("{pattern:?} is not a pattern")))?.to_owned();
            let default = rules.iter().find(|(name, _)| *name == pattern).and_then(|(_, it)| it.rules.first().cloned());
            let settings = Settings::parse(&value, default.as_ref()).map_err(failure)?;
            // The name of a folder replaces the folder's meaning. Other patterns add to it.
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

impl Settings {
    /// Parses the value of a pattern: a rule for all cases, and rules for groups of cases under
    /// their names.
    fn parse(value: &Value, default: Option<&Rule>) -> Result<Self, String> {
        let parse = |value: &Value| serde_yaml_ng::from_value::<RuleMeta>(value.clone()).map_err(|it| it.to_string());
        let meta = parse(value)?;
        let (language, entry_point) = (meta.language.clone(), meta.entrypoint.clone());
        let mut rules = vec![Rule::from_meta(meta, None, default)];
        for (key, value) in value.as_mapping().into_iter().flatten() {
            // Other keys may have mappings too, such as `authors`.
            let group = key.as_str().filter(|key| key.starts_with("sample") || key.starts_with("secret"));
            if let Some(group) = group.filter(|_| value.is_mapping()) {
                rules.push(Rule::from_meta(parse(value)?, Some(group.into()), None));
            }
        }
        Ok(Self { rules, language, entry_point })
    }
}

/// Whether a pattern matches a path or a folder above it.
fn is_at_or_above(pattern: &str, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| &path[..end]).any(|path| fast_glob::glob_match(pattern, path))
}
