//! The languages of submissions and validators.
//!
//! Invariant: a language is an entry of one table.

use std::path::Path;

/// How programs in a language are built and run.
///
/// A step is a command line with placeholders: `{tool}`, `{java}` and `{jar}` are tools, `{files}`
/// the source files, `{main}` the file of the entry point, `{class}` its name without the
/// extension, and `{heap}` the size of the heap of a run in MiB.
#[derive(Debug)]
pub struct Language {
    /// Its code in the package format.
    pub code: &'static str,
    pub extensions: &'static [&'static str],
    /// Compilers or interpreters. Any one of them is enough.
    pub tools: &'static [&'static str],
    /// The steps of the build, run in the directory of the sources.
    pub build: &'static [&'static str],
    /// The file that the build makes. Without one the program is its sources.
    pub artifact: Option<&'static str>,
    pub run: &'static str,
}

pub const LANGUAGES: &[Language] = &[
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
        artifact: Some("program.jar"),
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

type Names = &'static [&'static str];

const fn compiled(code: &'static str, extensions: Names, tools: Names, build: Names) -> Language {
    Language { code, extensions, tools, build, artifact: Some("program"), run: "./program" }
}

/// The program is its sources. The build only checks their syntax.
const fn interpreted(code: &'static str, extensions: Names, tools: Names, check: Names) -> Language {
    Language { code, extensions, tools, build: check, artifact: None, run: "{tool} {main}" }
}

/// The language with this code.
pub fn by_code(code: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.code == code)
}

/// The language of a file, by its extension.
pub fn by_extension(path: &Path) -> Option<&'static Language> {
    let extension = path.extension()?.to_str()?;
    LANGUAGES.iter().find(|language| language.extensions.contains(&extension))
}

impl Language {
    /// The arguments of a step, with its placeholders replaced.
    pub fn arguments(&self, step: &str, values: &Placeholders<'_>) -> Vec<String> {
        let mut arguments = Vec::new();
        for word in step.split(' ') {
            if word == "{files}" {
                arguments.extend(values.files.iter().cloned());
                continue;
            }
            let class = Path::new(values.main).file_stem().unwrap_or_default().to_string_lossy();
            let beside = |name| values.tool.with_file_name(name);
            let (jar, java, heap) = (beside("jar"), beside("java"), values.heap.to_string());
            let parts = [
                ("{tool}", values.tool.to_string_lossy()),
                ("{jar}", jar.to_string_lossy()),
                ("{java}", java.to_string_lossy()),
                ("{main}", values.main.into()),
                ("{class}", class),
                ("{heap}", heap.into()),
            ];
            arguments.push(parts.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value)));
        }
        arguments
    }
}

/// The values of the placeholders in a step.
pub struct Placeholders<'a> {
    pub tool: &'a Path,
    pub files: &'a [String],
    pub main: &'a str,
    pub heap: u64,
}
