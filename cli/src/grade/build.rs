//! Builds: from the sources of a program to what is installed in a container.
//!
//! Invariant: compilers and build scripts run in containers. Their results are read out as bytes.

use std::fmt::Display;
use std::path::Path;

use cellblock::{Command, Container, ErrorKind, Verdict};

use super::failure::Failure;
use super::files::ProgramFile;
use super::languages::{Language, Placeholders};
use super::limits::{self, ProblemLimits};
use super::program::{Program, command, write_files};
use super::source::Source;
use super::text::lossy;
use super::workers::{Activity, Workers};

/// More than a compiler makes of a solution.
const MAX_ARTIFACT: u64 = 256 << 20;
/// How much of a compiler's messages is kept.
const MAX_MESSAGES: usize = 64 << 10;

pub enum Built {
    Program(Program),
    /// The compiler's messages.
    CompileError(String),
    /// Why this machine cannot build it.
    NoTool(String),
}

impl Built {
    fn no_program(why: &dyn Display) -> Self {
        let most = MAX_ARTIFACT >> 20;
        Self::CompileError(format!("the build made no program of at most {most} MiB: {why}"))
    }
}

/// Builds a program in a container.
pub async fn build(source: &Source, workers: &Workers, limits: &ProblemLimits, label: &str) -> Result<Built, Failure> {
    if source.has_scripts() {
        return build_by_script(source, workers, limits, label).await;
    }
    let tool = source.language().and_then(|language| Ok((language, workers.toolchains.tool(language)?)));
    match tool {
        Ok((language, tool)) => {
            let container = workers.acquire(Activity::Build, label).await?;
            build_by_language(source, language, tool, &container, limits).await
        }
        Err(why) => Ok(Built::NoTool(why)),
    }
}

async fn build_by_language(
    source: &Source,
    language: &Language,
    tool: &Path,
    container: &Container,
    limits: &ProblemLimits,
) -> Result<Built, Failure> {
    let paths = source.paths_in(language);
    let main = source.entry_point(language, &paths);
    let values = Placeholders { tool, files: &paths, main: &main, heap: heap_mib(limits.memory) };
    write_files(container, "/w", &source.files).await?;
    for step in language.build {
        if let Some(messages) = run_step(container, limits, &language.arguments(step, &values)).await? {
            return Ok(Built::CompileError(messages));
        }
    }
    let files = match language.artifact {
        Some(name) => {
            let bytes = match container.read(Path::new("/w").join(name), MAX_ARTIFACT).await {
                // The sources decide what a compiler leaves: no file, a link, or a huge file.
                Err(error) if error.kind() == ErrorKind::File => return Ok(Built::no_program(&error)),
                bytes => bytes?,
            };
            vec![ProgramFile { path: name.into(), bytes, mode: 0o755 }]
        }
        None => source.files.clone(),
    };
    Ok(Built::Program(Program {
        files,
        archive: None,
        command: language.arguments(language.run, &values),
        limits_its_heap: language.run.contains("{heap}"),
    }))
}

async fn build_by_script(
    source: &Source,
    workers: &Workers,
    limits: &ProblemLimits,
    label: &str,
) -> Result<Built, Failure> {
    let command = vec!["./run".to_owned()];
    if !source.has_file("build") {
        let files = source.files.clone();
        return Ok(Built::Program(Program { files, archive: None, command, limits_its_heap: false }));
    }
    let container = workers.acquire(Activity::Build, label).await?;
    write_files(&container, "/w", &source.files).await?;
    if let Some(messages) = run_step(&container, limits, &["./build".into()]).await? {
        return Ok(Built::CompileError(messages));
    }
    let mut pack = Command::new("tar");
    pack.args(["-cf", "-", "."]).limits(limits::build(limits)).capture_bytes(MAX_ARTIFACT as usize);
    let packed = container.output(&pack).await?;
    match packed.report.verdict() {
        // A longer archive would be cut off.
        Verdict::Ok if packed.stdout.len() < MAX_ARTIFACT as usize => {
            let archive = Some(packed.stdout);
            Ok(Built::Program(Program { files: Vec::new(), archive, command, limits_its_heap: false }))
        }
        verdict => Ok(Built::no_program(&format!("{verdict}; {}", lossy(&packed.stderr)))),
    }
}

/// Runs a step of a build. Returns its messages if it fails.
async fn run_step(
    container: &Container,
    limits: &ProblemLimits,
    arguments: &[String],
) -> Result<Option<String>, Failure> {
    let mut command = command(arguments)?;
    command.limits(limits::build(limits)).capture_bytes(MAX_MESSAGES);
    let output = container.output(&command).await?;
    let messages = format!("{}{}", lossy(&output.stderr), lossy(&output.stdout));
    Ok(match output.report.verdict() {
        Verdict::Ok => None,
        Verdict::NonzeroExit if !messages.trim().is_empty() => Some(messages),
        verdict => Some(format!("{}: {verdict}\n{messages}", arguments[0])),
    })
}

/// The size of a virtual machine's heap in MiB. The machine needs some memory for itself.
fn heap_mib(memory: u64) -> u64 {
    let all = memory >> 20;
    all.saturating_sub(128).max(all / 2).max(1)
}
