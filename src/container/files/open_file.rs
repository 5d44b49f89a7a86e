//! A file to open inside a container.

use std::path::PathBuf;

use crate::wire::OpenRequest;

/// A regular file to open inside a container: [`Container::open`](crate::Container::open).
///
/// The path starts at the working directory or, if it is absolute, at the container's root. No
/// component may be a symbolic link. Files and directories that are created belong to the program's
/// ids and have exactly the requested mode.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct OpenFile(OpenRequest);

impl OpenFile {
    /// The mode of a file that is created without a call of [`mode`](Self::mode).
    pub(super) const DEFAULT_MODE: u32 = 0o644;

    /// Opens an existing file for reading.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self(OpenRequest::read(path))
    }

    /// Opens a file for writing: creates it if it is missing, truncates it otherwise.
    pub fn write(path: impl Into<PathBuf>) -> Self {
        Self(OpenRequest::write(path, Self::DEFAULT_MODE))
    }

    /// Opens a file for writing at its end: creates it if it is missing.
    pub fn append(path: impl Into<PathBuf>) -> Self {
        Self(OpenRequest::append(path, Self::DEFAULT_MODE))
    }

    /// The permissions of the file if it is created. 0644 by default. The umask does not apply.
    pub fn mode(self, mode: u32) -> Self {
        Self(OpenRequest { mode, ..self.0 })
    }

    /// Replaces the flags of open(2): an access mode, and any of `O_CREAT`, `O_EXCL`, `O_TRUNC` and
    /// `O_APPEND`. Any other flag is an error of kind
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn flags(self, flags: i32) -> Self {
        Self(OpenRequest { flags, ..self.0 })
    }

    /// Creates missing parent directories, with mode 0755.
    pub fn create_parents(self) -> Self {
        Self(OpenRequest { parents: true, ..self.0 })
    }
}

impl From<OpenFile> for OpenRequest {
    fn from(file: OpenFile) -> Self {
        file.0
    }
}
