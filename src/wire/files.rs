//! Files of a container that an init is asked to make or to open.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;

/// A symbolic link at `path` that says `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Symlink {
    #[serde(with = "bytes_path")]
    pub(crate) target: PathBuf,
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
}

/// A regular file to open inside a container: [`Container::open`](crate::Container::open).
///
/// The path starts at the working directory, or at the container's root where it is absolute. No component may be a
/// symbolic link. Files and directories that are made belong to the program's ids, and have just the mode asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
    pub(crate) flags: i32,
    pub(crate) mode: u32,
    pub(crate) parents: bool,
}

impl OpenFile {
    /// An existing file, to be read.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), flags: libc::O_RDONLY, mode: 0, parents: false }
    }

    /// A file to be written from its start: made with `mode` where it is missing, emptied where it is not.
    pub fn write(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self { path: path.into(), flags: libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, mode, parents: false }
    }

    /// A file to be written at its end: made with `mode` where it is missing.
    pub fn append(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self { path: path.into(), flags: libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, mode, parents: false }
    }

    /// The flags of open(2) instead of those set before: an access mode, and of `O_CREAT`, `O_EXCL`, `O_TRUNC` and
    /// `O_APPEND` what is wanted. Any other is an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn flags(self, flags: i32) -> Self {
        Self { flags, ..self }
    }

    /// Makes missing parent directories, with mode 0755.
    pub fn create_parents(self) -> Self {
        Self { parents: true, ..self }
    }

    pub(crate) fn flags_are_known(&self) -> bool {
        let known = libc::O_ACCMODE | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_APPEND;
        self.flags & !known == 0 && self.flags & libc::O_ACCMODE != libc::O_ACCMODE
    }
}
