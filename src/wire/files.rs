//! Files of a container that the init makes or opens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;

/// A symbolic link at `path` with the content `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Symlink {
    #[serde(with = "bytes_path")]
    pub(crate) target: PathBuf,
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
}

/// A regular file to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenRequest {
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
    /// Those of open(2).
    pub(crate) flags: i32,
    /// The mode of a file that is created.
    pub(crate) mode: u32,
    /// Whether missing parent directories are made, with mode 0755.
    pub(crate) parents: bool,
}

impl OpenRequest {
    pub(crate) fn read(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), libc::O_RDONLY, 0)
    }

    pub(crate) fn write(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self::new(path.into(), libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, mode)
    }

    pub(crate) fn append(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self::new(path.into(), libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, mode)
    }

    fn new(path: PathBuf, flags: i32, mode: u32) -> Self {
        Self { path, flags, mode, parents: false }
    }
}

/// A directory to make, with every directory above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MakeDirectory {
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
    /// The mode of the directory, if it is new. New directories above it have mode 0755.
    pub(crate) mode: u32,
}

/// A file, link or directory that gets another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rename {
    #[serde(with = "bytes_path")]
    pub(crate) from: PathBuf,
    #[serde(with = "bytes_path")]
    pub(crate) to: PathBuf,
}
