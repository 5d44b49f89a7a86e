//! Files of a package, on the host.
//!
//! Invariant: every error names its file. Names that begin with a dot are ignored. No file of a
//! submission is reached over a symbolic link, and no file is larger than its tree may be.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use serde::de::DeserializeOwned;

/// A file for the working directory of a program.
#[derive(Clone, Debug, Hash)]
pub struct ProgramFile {
    /// Relative to that directory.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// Who wrote some files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The author of the problem, who may use symbolic links.
    Package,
    /// The author of a submission, who may not: the grader would follow a link with its own rights.
    Submission,
}

impl Origin {
    /// Folders count too.
    fn max_files(self) -> usize {
        if self == Self::Package { 100_000 } else { 1000 }
    }

    fn max_bytes(self) -> u64 {
        if self == Self::Package { 512 << 20 } else { 16 << 20 }
    }

    /// The flags of calls that follow no link, if none is followed.
    fn nofollow(self) -> (AtFlags, OFlags) {
        match self {
            Self::Package => (AtFlags::empty(), OFlags::empty()),
            Self::Submission => (AtFlags::SYMLINK_NOFOLLOW, OFlags::NOFOLLOW),
        }
    }
}

impl ProgramFile {
    /// Reads a file, or all files below a folder. Every file is a regular file.
    pub fn read_all(path: &Path, origin: Origin) -> Result<Vec<Self>, String> {
        let mut tree = Tree { origin, files: Vec::new(), entries: 0, bytes: 0 };
        // The folder that a submission is in belongs to the package.
        let (parent, entry) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = openat(CWD, parent, DIRECTORY, Mode::empty()).map_err(|error| failure(parent, error))?;
        tree.read(parent.as_fd(), entry, &Place { path: path.into(), name: PathBuf::new(), depth: 0 })?;
        Ok(tree.files)
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);
/// Opening never waits, for the writer of a FIFO for example.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// Each level takes a descriptor.
const MAX_DEPTH: usize = 32;

/// What was read so far.
struct Tree {
    origin: Origin,
    files: Vec<ProgramFile>,
    entries: usize,
    bytes: u64,
}

/// An entry of a tree: its path on the host, and below the root of the tree.
struct Place {
    path: PathBuf,
    name: PathBuf,
    depth: usize,
}

impl Tree {
    /// Reads an entry of an open folder, and what is below it. Each step opens one component of the
    /// path, so a folder that is swapped for a link meanwhile is an error too.
    fn read(&mut self, dir: BorrowedFd<'_>, entry: &OsStr, at: &Place) -> Result<(), String> {
        let fail = |why: &dyn Display| format!("{}: {why}", at.path.display());
        let most = self.origin.max_files();
        if self.entries > most {
            return Err(fail(&format!("more than {most} files")));
        }
        self.entries += 1;
        let (at_flags, flags) = self.origin.nofollow();
        let stat = statat(dir, entry, at_flags).map_err(|error| fail(&error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file = openat(dir, entry, FILE | flags, Mode::empty()).map_err(|error| fail(&error))?;
                self.read_file(file.into(), at)
            }
            FileType::Directory if at.depth == MAX_DEPTH => Err(fail(&format!("more than {MAX_DEPTH} folders deep"))),
            FileType::Directory => {
                let dir = openat(dir, entry, DIRECTORY | flags, Mode::empty()).map_err(|error| fail(&error))?;
                for child in child_names(&dir, most).map_err(|error| fail(&error))? {
                    let (path, name) = (at.path.join(&child), at.name.join(&child));
                    self.read(dir.as_fd(), &child, &Place { path, name, depth: at.depth + 1 })?;
                }
                Ok(())
            }
            FileType::Symlink => Err(fail(&"a symbolic link, which a submission may not have")),
            _ => Err(fail(&"neither a regular file nor a folder")),
        }
    }

    fn read_file(&mut self, file: File, at: &Place) -> Result<(), String> {
        let fail = |why: &dyn Display| format!("{}: {why}", at.path.display());
        let meta = file.metadata().map_err(|error| fail(&error))?;
        if !meta.is_file() {
            return Err(fail(&"no regular file"));
        }
        let left = self.origin.max_bytes() - self.bytes;
        let mut bytes = Vec::new();
        // The file may grow meanwhile. One byte more than allowed shows that.
        if meta.len() <= left {
            file.take(left + 1).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
        }
        if meta.len().max(bytes.len() as u64) > left {
            return Err(fail(&format!("more than {} MiB of files", self.origin.max_bytes() >> 20)));
        }
        self.bytes += bytes.len() as u64;
        let name = if at.depth == 0 { at.path.file_name().unwrap_or_default().into() } else { at.name.clone() };
        let is_executable = meta.permissions().mode() & 0o100 != 0;
        self.files.push(ProgramFile { path: name, bytes, mode: if is_executable { 0o755 } else { 0o644 } });
        Ok(())
    }
}

/// The entries of an open folder, sorted. More than `most` are an error.
fn child_names(dir: &OwnedFd, most: usize) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for (count, entry) in Dir::read_from(dir)?.enumerate() {
        // Two of them are the folder itself and its parent.
        if count == most + 2 {
            return Err(io::Error::other(format!("more than {most} files")));
        }
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if !is_hidden(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn failure(path: &Path, error: impl Display) -> String {
    format!("{}: {error}", path.display())
}

/// The entries of a folder, sorted by name.
pub fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failure = |error| failure(dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failure)? {
        let entry = entry.map_err(failure)?;
        if !is_hidden(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a YAML file. An empty file is an empty mapping.
pub fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = fs::read_to_string(path).map_err(|error| failure(path, error))?;
    let text = if text.trim().is_empty() { "{}" } else { &text };
    serde_yaml_ng::from_str(text).map_err(|error| failure(path, error))
}
