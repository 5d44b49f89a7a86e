//! Caps on what one copy takes.
//!
//! Invariant: a cap is checked before what exceeds it is opened, read or written.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, Step};

/// The caps of a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) depth: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { bytes: 256 << 20, entries: 10_000, depth: 64 }
    }
}

/// How many names a copy looks at, whether or not it copies them. A program may make names as fast
/// as they are read.
const MAX_LOOKED_AT: u64 = 1 << 20;

/// The bytes and entries that the caps still allow.
#[derive(Debug)]
pub(super) struct Budget {
    /// The tree's top. The paths of errors begin with it.
    top: PathBuf,
    caps: Caps,
    bytes: u64,
    entries: u64,
    looked_at: u64,
}

impl Budget {
    pub(super) fn new(caps: Caps, top: &Path) -> Self {
        Self { top: top.to_owned(), caps, bytes: 0, entries: 0, looked_at: 0 }
    }

    /// Counts a name that was found.
    pub(super) fn look_at(&mut self, path: &Path) -> Result<()> {
        self.looked_at += 1;
        if self.looked_at > MAX_LOOKED_AT {
            return Err(self.exceeded(path, format!("more than {MAX_LOOKED_AT} names to look at")));
        }
        Ok(())
    }

    /// Counts a file, directory or link that is copied.
    pub(super) fn take_entry(&mut self, path: &Path) -> Result<()> {
        self.entries += 1;
        if self.entries > self.caps.entries {
            return Err(self.exceeded(path, format!("more than {} files, directories and links", self.caps.entries)));
        }
        self.check_depth(path)
    }

    pub(super) fn check_depth(&self, path: &Path) -> Result<()> {
        if path.components().count() > self.caps.depth {
            return Err(self.exceeded(path, format!("deeper than {} names", self.caps.depth)));
        }
        Ok(())
    }

    /// Counts bytes of a file.
    pub(super) fn take_bytes(&mut self, path: &Path, bytes: u64) -> Result<()> {
        if bytes > self.caps.bytes.saturating_sub(self.bytes) {
            return Err(self.exceeded(path, format!("more than {} bytes in all", self.caps.bytes)));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Why a file of the tree is not copied.
    pub(super) fn refused(&self, path: &Path, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::File, Step::Copy).errno(libc::EINVAL).at(self.top.join(path)).detail(why)
    }

    fn exceeded(&self, path: &Path, what: String) -> Error {
        Error::new(ErrorKind::File, Step::Copy).errno(libc::EFBIG).at(self.top.join(path)).detail(what)
    }
}
