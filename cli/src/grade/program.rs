//! A program that is ready to run.
//!
//! Invariant: a program is bytes on the host until it is installed, so every run begins in a clean
//! container.

use std::io::Write;
use std::path::Path;

use cellblock::container::OpenFile;
use cellblock::{Command, Container, Stdio};

use super::failure::Failure;
use super::files::ProgramFile;
use super::limits;
use super::text::lossy;
use crate::environment::PATH;

#[derive(Debug)]
pub struct Program {
    pub files: Vec<ProgramFile>,
    /// A tar archive of the directory that a build script has filled.
    pub archive: Option<Vec<u8>>,
    pub command: Vec<String>,
    /// Whether it runs in a virtual machine that limits its own heap.
    pub limits_its_heap: bool,
}

impl Program {
    /// Writes it into a container. Returns the command that runs it there.
    pub async fn install(&self, container: &Container) -> Result<Command, Failure> {
        write_files(container, "/w", &self.files).await?;
        if let Some(archive) = &self.archive {
            let mut unpack = Command::new("tar");
            unpack.args(["-xf", "-"]).stdin(Stdio::bytes(archive.clone())).limits(limits::trusted());
            let output = container.output(&unpack).await?;
            if !output.report.status.success() {
                return Err(format!("cannot unpack the build script's output: {}", lossy(&output.stderr)).into());
            }
        }
        command(&self.command)
    }
}

/// A command with the environment of builds and runs.
pub fn command(arguments: &[String]) -> Result<Command, Failure> {
    let [program, args @ ..] = arguments else { return Err("a program without a command".into()) };
    let mut command = Command::new(program);
    command.args(args);
    command.env("PATH", PATH).env("HOME", "/tmp").env("LANG", "C.UTF-8");
    // Compilers cache below /tmp, and Python writes nothing beside its sources.
    command.env("GOCACHE", "/tmp/go").env("GO111MODULE", "off").env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// Writes files into a directory of a container. Makes the directories that they need.
pub async fn write_files(container: &Container, dir: &str, files: &[ProgramFile]) -> Result<(), Failure> {
    // A few at a time, because this process may have few descriptors.
    for files in files.chunks(64) {
        let to_open =
            files.iter().map(|file| OpenFile::write(Path::new(dir).join(&file.path)).mode(file.mode).create_parents());
        for (opened, file) in container.open(to_open).await?.into_iter().zip(files) {
            opened?.write_all(&file.bytes)?;
        }
    }
    Ok(())
}
