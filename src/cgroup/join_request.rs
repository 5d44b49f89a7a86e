//! What the init is told of a group: its files, and what each is for.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::wire::{self, CgroupVersion, Counter, Figure, GroupFile};

/// The files of a group for the init, with a descriptor for each.
pub(crate) type JoinRequest = (wire::GroupFiles, Vec<Arc<OwnedFd>>);

/// Collects the files of a group.
#[derive(Debug, Default)]
pub(super) struct JoinRequestBuilder {
    files: Vec<GroupFile>,
    fds: Vec<Arc<OwnedFd>>,
}

impl JoinRequestBuilder {
    pub(super) fn add(&mut self, file: GroupFile, fd: OwnedFd) {
        self.files.push(file);
        self.fds.push(Arc::new(fd));
    }

    /// Adds a file that the init writes to.
    pub(super) fn add_writable(&mut self, file: GroupFile, path: &Path) -> io::Result<()> {
        self.add(file, OpenOptions::new().write(true).open(path)?.into());
        Ok(())
    }

    /// Adds a figure that the init reads. Leaves out a figure that this kernel does not count here.
    ///
    /// `key` is the first word of the figure's line, or empty if the file has only the figure.
    /// `unit` is the figure's unit in nanoseconds, for a time.
    pub(super) fn add_counter(&mut self, figure: Figure, path: &Path, key: &str, unit: u32) -> io::Result<()> {
        if !key.is_empty() && !has_line(path, key)? {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(figure == Figure::MemoryPeakSinceReset);
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => {
                self.add(GroupFile::Counter(Counter { figure, key: key.to_owned(), unit }), opened?.into());
                Ok(())
            }
        }
    }

    pub(super) fn build(self, version: CgroupVersion) -> JoinRequest {
        (wire::GroupFiles { version, files: self.files }, self.fds)
    }
}

/// Whether a file exists and has a line whose first word is `key`.
fn has_line(path: &Path, key: &str) -> io::Result<bool> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().any(|line| line.split(' ').next() == Some(key))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
