//! A part of a tree that is written into a container at once.
//!
//! Invariant: a batch has few enough files to be open at once, and few enough steps for the init to
//! keep a run's deadlines.

use std::fs::File;
use std::io;
#[cfg(feature = "tar")]
use std::path::Path;
use std::path::PathBuf;

use super::content;

/// How many files are opened in one request.
const FILES_AT_ONCE: usize = 64;

/// How many names the directories of one request have in all.
const NAMES_AT_ONCE: usize = 512;

/// How many bytes of small files wait in memory for one request.
const BYTES_AT_ONCE: usize = 1 << 20;

/// The largest file whose content waits in memory.
pub(super) const SMALL: u64 = 64 << 10;

/// A part of a tree. Its directories are made first.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) directories: Vec<(PathBuf, u32)>,
    pub(super) files: Vec<(PathBuf, u32, Content)>,
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    names: usize,
    bytes: usize,
}

pub(super) enum Content {
    Small(Vec<u8>),
    /// A file of the host, of which at most so many bytes are copied.
    Host(File, u64),
}

impl Content {
    /// The content of a file of the host with this size.
    pub(super) fn of_host(file: File, bytes: u64) -> io::Result<Self> {
        if bytes > SMALL { Ok(Self::Host(file, bytes)) } else { content::read(&file, bytes).map(Self::Small) }
    }
}

impl Batch {
    pub(super) fn add_directory(&mut self, path: PathBuf, mode: u32) {
        self.names += path.components().count();
        self.directories.push((path, mode & 0o777));
    }

    pub(super) fn add_file(&mut self, path: PathBuf, mode: u32, content: Content) {
        if let Content::Small(bytes) = &content {
            self.bytes += bytes.len();
        }
        self.names += 1;
        self.files.push((path, mode & 0o777, content));
    }

    pub(super) fn add_link(&mut self, path: PathBuf, target: PathBuf) {
        self.names += 1;
        self.links.push((path, target));
    }

    /// Whether the batch has a file at this path. Two openings of one file would be written over
    /// each other.
    #[cfg(feature = "tar")]
    pub(super) fn has_file(&self, path: &Path) -> bool {
        self.files.iter().any(|(file, ..)| file == path)
    }

    #[cfg(feature = "tar")]
    pub(super) fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= FILES_AT_ONCE || self.names >= NAMES_AT_ONCE || self.bytes >= BYTES_AT_ONCE
    }
}
