//! Files of a package, on the host.
//!
//! Invariant: every error names its file. Names that begin with a dot are ignored.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file for the working directory of a program.
#[derive(Clone, Debug, Hash)]
pub struct ProgramFile {
    /// Relative to that directory.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

impl ProgramFile {
    /// Reads a file of the host. `name` is its path in the program's directory.
    pub fn read(path: &Path, name: PathBuf) -> Result<Self, String> {
        let failure = |error| format!("{}: {error}", path.display());
        let is_executable = path.metadata().map_err(failure)?.permissions().mode() & 0o100 != 0;
        let bytes = fs::read(path).map_err(failure)?;
        Ok(Self { path: name, bytes, mode: if is_executable { 0o755 } else { 0o644 } })
    }

    /// Reads all files below a folder.
    pub fn read_all(dir: &Path) -> Result<Vec<Self>, String> {
        let mut files = Vec::new();
        read_below(dir, Path::new(""), &mut files)?;
        Ok(files)
    }
}

fn read_below(dir: &Path, name: &Path, files: &mut Vec<ProgramFile>) -> Result<(), String> {
    for path in entries(dir)? {
        let name = name.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            read_below(&path, &name, files)?;
        } else {
            files.push(ProgramFile::read(&path, name)?);
        }
    }
    Ok(())
}

/// The entries of a folder, sorted by name.
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

/// Reads a YAML file. An empty file is an empty mapping.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let failure = |error: &dyn Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| failure(&error))?;
    let text = if text.trim().is_empty() { "{}" } else { &text };
    serde_yaml_ng::from_str(text).map_err(|error| failure(&error))
}
