//! Directories of a container, listed by the host.
//!
//! Invariant: the host uses the descriptor of a directory to read names, and for nothing else. A
//! listing holds one buffer of names, however large the directory is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use rustix::fs::Dir;
use tokio::task::{JoinHandle, spawn_blocking};

use super::metadata::FileType;
use crate::container::handle::Container;
use crate::container::message::Message;
use crate::container::reply::PendingReply;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::wire::Request;

/// How many names are read at once, and so how many files of a walk are open at once.
const NAMES_AT_ONCE: usize = 64;

/// A name in a directory of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    name: OsString,
    file_type: FileType,
}

impl DirEntry {
    /// The name in the directory, without a path.
    pub fn file_name(&self) -> &OsStr {
        &self.name
    }

    /// The type that the file had when its name was read.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }
}

/// The names in a directory of a container: [`Container::read_dir`].
#[derive(Debug)]
pub struct ReadDir {
    container: Container,
    path: PathBuf,
    attributes: Attributes,
    names: IntoIter<RawEntry>,
    source: Source,
}

/// What a walk needs to know of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    /// Seconds since 1970.
    #[cfg_attr(not(feature = "tar"), expect(dead_code, reason = "only a tar stream has times"))]
    pub(super) modified: i64,
}

/// A name, and its type if the file system tells it.
type RawEntry = (OsString, Option<FileType>);

#[derive(Debug)]
enum Source {
    Idle(Dir),
    /// The next names are being read. A dropped call leaves them here for the next one.
    Busy(JoinHandle<io::Result<(Dir, Vec<RawEntry>)>>),
    Ended,
}

impl ReadDir {
    pub(super) async fn open(container: &Container, path: PathBuf) -> Result<Self> {
        let request = Request::OpenDirectory(path.clone());
        let fd = container.mailbox.call(|sender| Message::Request(request, PendingReply::Directory(sender))).await?;
        let dir = Dir::new(fd).fail_at(ErrorKind::Host, Step::ReadDirectory, &path)?;
        let stat = dir.stat().fail_at(ErrorKind::Host, Step::ReadDirectory, &path)?;
        let attributes = Attributes { mode: stat.st_mode & 0o7777, modified: stat.st_mtime };
        let names = Vec::new().into_iter();
        Ok(Self { container: container.clone(), path, attributes, names, source: Source::Idle(dir) })
    }

    pub(super) fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// The next name, or `None` at the end. `.` and `..` are left out.
    ///
    /// The order is the file system's. A name that a program makes or removes meanwhile may be
    /// there or not. A program that makes names as fast as they are read can make the listing
    /// endless, but each call ends.
    ///
    /// # Errors
    /// [`ErrorKind::File`] if the directory cannot be read further.
    ///
    /// # Cancel safety
    /// Dropping the future loses no name.
    pub async fn next_entry(&mut self) -> Result<Option<DirEntry>> {
        loop {
            // The name stays until its type is known.
            if let Some((name, file_type)) = self.names.as_slice().first() {
                let entry = match file_type {
                    Some(file_type) => Some(DirEntry { name: name.clone(), file_type: *file_type }),
                    None => self.inspect(name).await?,
                };
                self.names.next();
                if entry.is_some() {
                    return Ok(entry);
                }
            } else if !self.read_names().await.fail_at(ErrorKind::File, Step::ReadDirectory, &self.path)? {
                return Ok(None);
            }
        }
    }

    /// The next names, up to [`NAMES_AT_ONCE`]. Empty at the end.
    pub(super) async fn next_entries(&mut self) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        while entries.is_empty() || !self.names.as_slice().is_empty() {
            match self.next_entry().await? {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        Ok(entries)
    }

    /// The entry of a name whose type the file system does not tell, if it is still there.
    async fn inspect(&self, name: &OsStr) -> Result<Option<DirEntry>> {
        match self.container.metadata(self.path.join(name)).await {
            Ok(metadata) => Ok(Some(DirEntry { name: name.to_owned(), file_type: metadata.file_type() })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the next names. Returns false at the end.
    async fn read_names(&mut self) -> io::Result<bool> {
        self.source = match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Idle(dir) => Source::Busy(spawn_blocking(move || read_some(dir))),
            source => source,
        };
        let Source::Busy(reading) = &mut self.source else { return Ok(false) };
        let read = reading.await;
        self.source = Source::Ended;
        let (dir, names) = read.map_err(io::Error::from)??;
        if names.is_empty() {
            return Ok(false);
        }
        self.source = Source::Idle(dir);
        self.names = names.into_iter();
        Ok(true)
    }
}

fn read_some(mut dir: Dir) -> io::Result<(Dir, Vec<RawEntry>)> {
    let mut names = Vec::new();
    while names.len() < NAMES_AT_ONCE {
        let Some(entry) = dir.next() else { break };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsString::from_vec(name.to_vec()), FileType::from_kernel(entry.file_type())));
        }
    }
    Ok((dir, names))
}

/// Whether a file was removed since its name was read.
pub(super) fn is_gone(error: &Error) -> bool {
    error.kind() == ErrorKind::File && error.raw_os_error() == Some(libc::ENOENT)
}

/// The path of a name in a directory, without a `.` at its beginning.
pub(super) fn join(dir: &Path, name: &OsStr) -> PathBuf {
    if dir.as_os_str().is_empty() { PathBuf::from(name) } else { dir.join(name) }
}
