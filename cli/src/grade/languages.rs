//! The languages of submissions and validators, and which of their tools this machine has.
//!
//! Invariant: a language is a line of a table, and a tool counts as there only where a container can see it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use cellblock::{ContainerBuilder, Mount};
use nix::unistd::{AccessFlags, access};

/// How programs in a language are built and run.
///
/// In a step, `{tool}`, `{java}` and `{jar}` are tools, `{files}` the source files, `{main}` the entry point's file, `{class}` its
/// name without the ending, and `{heap}` how many MiB of memory a run may fill.
#[derive(Debug)]
pub struct Language {
    /// The format's code for it.
    pub code: &'static str,
    pub endings: &'static [&'static str],
    /// Any one of these will do.
    tools: &'static [&'static str],
    /// Run one after another where the sources are.
    pub build: &'static [&'static str],
    /// What the build leaves; without it a program is its sources.
    pub artefact: Option<&'static str>,
    pub run: &'static str,
}

const LANGUAGES: &[Language] = &[
    compiled("c", &["c"], &["gcc", "cc", "clang"], &["{tool} -O2 -std=gnu17 -o program {files} -lm"]),
    compiled(
        "cpp",
        &["cc", "cpp", "cxx", "c++", "C"],
        &["g++", "c++", "clang++"],
        &["{tool} -O2 -std=gnu++20 -o program {files}"],
    ),
    compiled("rust", &["rs"], &["rustc"], &["{tool} -O --edition 2021 -C strip=symbols -o program {main}"]),
    Language {
        run: "/usr/bin/env GOMEMLIMIT={heap}MiB ./program",
        ..compiled("go", &["go"], &["go"], &["{tool} build -o program {files}"])
    },
    compiled("haskell", &["hs"], &["ghc"], &["{tool} -O2 -outputdir /tmp/ghc -o program {main}"]),
    compiled("pascal", &["pas"], &["fpc"], &["{tool} -O2 -oprogram {main}"]),
    Language {
        artefact: Some("program.jar"),
        run: "{java} -XX:+UseSerialGC -Xss64m -Xmx{heap}m -jar program.jar",
        ..compiled(
            "java",
            &["java"],
            &["javac"],
            &[
                "{tool} -J-XX:+UseSerialGC -encoding UTF-8 -d /tmp/classes {files}",
                "{jar} cfe program.jar {class} -C /tmp/classes .",
            ],
        )
    },
    interpreted("python3", &["py", "py3"], &["python3"], &["{tool} -m py_compile {files}"]),
    Language {
        run: "{tool} --max-old-space-size={heap} {main}",
        ..interpreted("javascript", &["js"], &["node"], &["{tool} --check {main}"])
    },
    interpreted("perl", &["pl", "pm"], &["perl"], &["{tool} -c {main}"]),
    interpreted("ruby", &["rb"], &["ruby"], &["{tool} -c {main}"]),
    interpreted("bash", &["sh"], &["bash"], &["{tool} -n {main}"]),
    interpreted("php", &["php"], &["php"], &["{tool} -l {main}"]),
    interpreted("lua", &["lua"], &["lua"], &["{tool} -e loadfile('{main}')"]),
];

type Words = &'static [&'static str];

const fn compiled(code: &'static str, endings: Words, tools: Words, build: Words) -> Language {
    Language { code, endings, tools, build, artefact: Some("program"), run: "./program" }
}

/// The program is its sources; a look at their syntax stands for the build.
const fn interpreted(code: &'static str, endings: Words, tools: Words, check: Words) -> Language {
    Language { code, endings, tools, build: check, artefact: None, run: "{tool} {main}" }
}

/// The language with this code of the format.
pub fn by_code(code: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.code == code)
}

/// The language of a file with this name.
pub fn by_ending(path: &Path) -> Option<&'static Language> {
    let ending = path.extension()?.to_str()?;
    LANGUAGES.iter().find(|language| language.endings.contains(&ending))
}

impl Language {
    /// The words of a step, with everything in its place.
    pub fn words(&self, step: &str, fill: &Fill<'_>) -> Vec<String> {
        let mut words = Vec::new();
        for word in step.split(' ') {
            if word == "{files}" {
                words.extend(fill.files.iter().cloned());
                continue;
            }
            let class = Path::new(fill.main).file_stem().unwrap_or_default().to_string_lossy();
            let beside = |name| fill.tool.with_file_name(name);
            let (jar, java, heap) = (beside("jar"), beside("java"), fill.heap.to_string());
            let parts = [
                ("{tool}", fill.tool.to_string_lossy()),
                ("{jar}", jar.to_string_lossy()),
                ("{java}", java.to_string_lossy()),
                ("{main}", fill.main.into()),
                ("{class}", class),
                ("{heap}", heap.into()),
            ];
            words.push(parts.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value)));
        }
        words
    }
}

/// What goes in a step's places.
pub struct Fill<'a> {
    pub tool: &'a Path,
    pub files: &'a [String],
    pub main: &'a str,
    pub heap: u64,
}

/// The tools of this machine, and what containers must be shown for them.
pub struct Toolbox {
    tools: BTreeMap<&'static str, PathBuf>,
    mounts: Vec<Mount>,
}

impl Toolbox {
    /// Looks for the tools of every language.
    pub fn of_this_machine() -> Self {
        let mut toolbox = Self { tools: BTreeMap::new(), mounts: settings_of_java() };
        for language in LANGUAGES {
            let found = language.tools.iter().find_map(|tool| toolbox.find(tool));
            toolbox.tools.extend(found.map(|path| (language.code, path)));
        }
        toolbox
    }

    /// A builder of containers that have all the tools.
    pub fn furnish(&self, builder: ContainerBuilder) -> ContainerBuilder {
        self.mounts.iter().cloned().fold(builder, ContainerBuilder::mount)
    }

    /// The tool of a language inside a container, or what to install.
    pub fn tool(&self, language: &Language) -> Result<&Path, String> {
        let tool = self.tools.get(language.code).map(PathBuf::as_path);
        tool.ok_or_else(|| format!("no {} that a container could be shown", language.tools.join(" or ")))
    }

    fn find(&mut self, tool: &'static str) -> Option<PathBuf> {
        let found = ["/usr/local/bin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        if let Some(path) = found.into_iter().find(|path| is_visible(path)) {
            return Some(path);
        }
        // These are often elsewhere, and know where they are at home.
        let (question, home) = match tool {
            "rustc" => (["--print", "sysroot"], "/opt/rust"),
            "go" => (["env", "GOROOT"], "/opt/go"),
            _ => return None,
        };
        let answer = Command::new(tool).args(question).output().ok().filter(|answer| answer.status.success())?;
        let source = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
        let inside = Path::new("bin").join(tool);
        access(&source.join(&inside), AccessFlags::X_OK).ok()?;
        self.mounts.push(Mount::bind(source, home));
        Some(Path::new(home).join(inside))
    }
}

/// Whether a program is there, in a place that a container has.
fn is_visible(path: &Path) -> bool {
    let real = path.canonicalize().ok().filter(|real| access(real, AccessFlags::X_OK).is_ok());
    real.is_some_and(|real| ["/usr", "/bin", "/lib"].iter().any(|dir| real.starts_with(dir)))
}

/// A JDK of a distribution keeps its settings in `/etc`.
fn settings_of_java() -> Vec<Mount> {
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_java = |path: &PathBuf| path.is_dir() && path.to_string_lossy().starts_with("/etc/java-");
    entries.filter(is_java).map(|path| Mount::bind(path.clone(), path)).collect()
}
