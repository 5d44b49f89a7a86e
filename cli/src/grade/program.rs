//! Programs of a package, from their sources to what a container is given to run them.
//!
//! Invariant: sources are read on the host and never executed there. What a build leaves is carried out of its container
//! as bytes, so that every run begins in a clean one.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cellblock::{Command, Container, Stdio, Verdict, container::OpenFile};

use super::bench::{Activity, Bench};
use super::languages::{self, Fill, Language};
use super::package::{Limits, entries};
use super::{Failure, limits};

/// A file that a program needs in its directory.
#[derive(Clone, Debug, Hash)]
pub struct ProgramFile {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// The sources of a program: one file, or a folder of them.
#[derive(Debug)]
pub struct Source {
    pub name: String,
    files: Vec<ProgramFile>,
    language: Option<String>,
    entry_point: Option<String>,
}

/// A program that is ready to be put into a container.
#[derive(Debug)]
pub struct Program {
    files: Vec<ProgramFile>,
    /// A tar archive, where a build script has left nobody knows what.
    packed: Option<Vec<u8>>,
    words: Vec<String>,
    /// Whether it runs in a virtual machine that was told how large its heap may be.
    pub limits_itself: bool,
}

/// What came of a build.
pub enum Built {
    Ready(Program),
    /// The compiler's words.
    Failed(String),
    /// A tool that is not there.
    Missing(String),
}

impl Source {
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = Vec::new();
        if path.is_dir() {
            read_files(path, Path::new(""), &mut files)?;
        } else {
            files.push(read_file(path, name.clone().into())?);
        }
        Ok(Self { name, files, language: None, entry_point: None })
    }

    /// Sets what the package says of it.
    pub fn say(&mut self, language: Option<String>, entry_point: Option<String>) {
        (self.language, self.entry_point) = (language, entry_point);
    }

    /// Adds the files that the package gives to every submission in the language, over its own.
    pub fn include(&mut self, dir: &Path) -> Result<(), String> {
        let Ok(language) = self.language() else { return Ok(()) };
        for folder in [dir.join("default"), dir.join(language.code)] {
            if folder.is_dir() {
                let mut files = Vec::new();
                read_files(&folder, Path::new(""), &mut files)?;
                self.files.retain(|own| files.iter().all(|file| file.path != own.path));
                self.files.append(&mut files);
            }
        }
        Ok(())
    }

    /// Whether it can be built or run at all: a header alone cannot.
    pub fn is_program(&self) -> bool {
        self.has_scripts() || self.language().is_ok()
    }

    pub fn has_no_ending(&self) -> bool {
        Path::new(&self.name).extension().is_none()
    }

    /// The one language of its files, or why there is none.
    pub fn language(&self) -> Result<&'static Language, String> {
        if let Some(code) = &self.language {
            return languages::by_code(code).ok_or_else(|| format!("no language {code} here"));
        }
        let mut found = self.files.iter().filter_map(|file| languages::by_ending(&file.path));
        let first = found.next().ok_or_else(|| format!("{}: no language has that ending", self.name))?;
        match found.find(|language| language.code != first.code) {
            Some(other) => Err(format!("{}: both {} and {}", self.name, first.code, other.code)),
            None => Ok(first),
        }
    }

    /// A number that changes with its content.
    pub fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.files, &self.language, &self.entry_point).hash(&mut hasher);
        hasher.finish()
    }

    /// Builds it in a container.
    pub async fn build(&self, bench: &Bench, limits: &Limits, label: &str) -> Result<Built, Failure> {
        if self.has_scripts() {
            return self.build_by_script(bench, limits, label).await;
        }
        let language = match self.language() {
            Ok(language) => language,
            Err(why) => return Ok(Built::Missing(why)),
        };
        let tool = match bench.toolbox.tool(language) {
            Ok(tool) => tool,
            Err(why) => return Ok(Built::Missing(why)),
        };
        let is_source =
            |file: &&ProgramFile| languages::by_ending(&file.path).is_some_and(|it| it.code == language.code);
        let files: Vec<_> = self.files.iter().filter(is_source).map(|file| file.path.display().to_string()).collect();
        let main = self.main_of(language, &files);
        let heap = heap(limits.memory);
        let fill = Fill { tool, files: &files, main: &main, heap };
        let container = bench.take(Activity::Build, label).await?;
        put(&container, "/w", &self.files).await?;
        for step in language.build {
            if let Some(words) = build_step(&container, limits, &language.words(step, &fill)).await? {
                return Ok(Built::Failed(words));
            }
        }
        let files = match language.artefact {
            Some(name) => {
                let bytes = container.read(Path::new("/w").join(name), MAX_ARTEFACT).await?;
                vec![ProgramFile { path: name.into(), bytes, mode: 0o755 }]
            }
            None => self.files.clone(),
        };
        let limits_itself = language.run.contains("{heap}");
        Ok(Built::Ready(Program { files, packed: None, words: language.words(language.run, &fill), limits_itself }))
    }

    fn has_scripts(&self) -> bool {
        self.files.iter().any(|file| ["build", "run"].map(Path::new).contains(&file.path.as_path()))
    }

    async fn build_by_script(&self, bench: &Bench, limits: &Limits, label: &str) -> Result<Built, Failure> {
        let words = vec!["./run".to_owned()];
        if self.files.iter().all(|file| file.path != Path::new("build")) {
            return Ok(Built::Ready(Program { files: self.files.clone(), packed: None, words, limits_itself: false }));
        }
        let container = bench.take(Activity::Build, label).await?;
        put(&container, "/w", &self.files).await?;
        if let Some(said) = build_step(&container, limits, &["./build".into()]).await? {
            return Ok(Built::Failed(said));
        }
        let mut pack = Command::new("tar");
        pack.args(["-cf", "-", "."]).limits(limits::build(limits)).capture_bytes(MAX_ARTEFACT as usize);
        let packed = Some(container.output(&pack).await?.stdout);
        Ok(Built::Ready(Program { files: Vec::new(), packed, words, limits_itself: false }))
    }

    /// The file that a run begins with: as the package says, or one of the usual names, or the first.
    fn main_of(&self, language: &Language, files: &[String]) -> String {
        let ending = language.endings[0];
        let usual = ["main", "Main", "__main__"].map(|name| format!("{name}.{ending}"));
        let said =
            self.entry_point.as_ref().map(|it| if it.contains('.') { it.clone() } else { format!("{it}.{ending}") });
        let known = said.into_iter().chain(usual).find(|name| files.contains(name));
        known.or_else(|| files.first().cloned()).unwrap_or_default()
    }
}

/// More than any compiler makes of a solution.
const MAX_ARTEFACT: u64 = 256 << 20;

impl Program {
    /// Puts it into a container, and gives the command that runs it there.
    pub async fn install(&self, container: &Container) -> Result<Command, Failure> {
        put(container, "/w", &self.files).await?;
        if let Some(packed) = &self.packed {
            let mut unpack = Command::new("tar");
            unpack.args(["-xf", "-"]).stdin(Stdio::bytes(packed.clone())).limits(limits::trusted());
            let output = container.output(&unpack).await?;
            if !output.report.status.success() {
                return Err(format!("unpacking what the build script left: {}", text(&output.stderr)).into());
            }
        }
        let [program, args @ ..] = self.words.as_slice() else { return Err("a program without a command".into()) };
        let mut command = Command::new(program);
        command.args(args);
        environment(&mut command);
        Ok(command)
    }
}

/// Puts files into a directory of a container, with the directories that they need.
pub async fn put(container: &Container, dir: &str, files: &[ProgramFile]) -> Result<(), Failure> {
    // A few at a time, as this process may not have many descriptors.
    for files in files.chunks(64) {
        let wanted =
            files.iter().map(|file| OpenFile::write(Path::new(dir).join(&file.path), file.mode).create_parents());
        for (opened, file) in container.open(wanted).await?.into_iter().zip(files) {
            opened?.write_all(&file.bytes)?;
        }
    }
    Ok(())
}

/// The files of a folder, and of those in it, by their paths in it.
pub fn read_files(dir: &Path, below: &Path, files: &mut Vec<ProgramFile>) -> Result<(), String> {
    for path in entries(dir)? {
        let below = below.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            read_files(&path, &below, files)?;
        } else {
            files.push(read_file(&path, below)?);
        }
    }
    Ok(())
}

fn read_file(path: &Path, name: PathBuf) -> Result<ProgramFile, String> {
    let failure = |error| format!("{}: {error}", path.display());
    let is_executable = path.metadata().map_err(failure)?.permissions().mode() & 0o100 != 0;
    let bytes = fs::read(path).map_err(failure)?;
    Ok(ProgramFile { path: name, bytes, mode: if is_executable { 0o755 } else { 0o644 } })
}

/// Runs a step of a build; where it failed, what it said.
async fn build_step(container: &Container, limits: &Limits, words: &[String]) -> Result<Option<String>, Failure> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).limits(limits::build(limits)).capture_bytes(64 << 10);
    environment(&mut command);
    let output = container.output(&command).await?;
    let said = format!("{}{}", text(&output.stderr), text(&output.stdout));
    Ok(match output.report.verdict() {
        Verdict::Ok => None,
        Verdict::NonzeroExit if !said.trim().is_empty() => Some(said),
        verdict => Some(format!("{}: {verdict}\n{said}", words[0])),
    })
}

fn environment(command: &mut Command) {
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/tmp").env("LANG", "C.UTF-8");
    // Where a compiler may write, and Python leaves nothing beside its sources.
    command.env("GOCACHE", "/tmp/go").env("GO111MODULE", "off").env("PYTHONDONTWRITEBYTECODE", "1");
}

/// How many MiB a virtual machine's heap may have, where it needs some memory for itself.
fn heap(memory: u64) -> u64 {
    let all = memory >> 20;
    all.saturating_sub(128).max(all / 2).max(1)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
