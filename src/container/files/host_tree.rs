//! Trees of the host: read for a copy in, written for a copy out.
//!
//! Invariant: below the top nothing is followed, on either way. A name is opened in the open
//! directory that it was read from, and only as the type that it should have. Everything here
//! blocks.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, mkdirat, openat, readlinkat, statat, symlinkat, unlinkat};
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Content};
use super::budget::Budget;
use super::content;
use super::listing::join;
use super::metadata::FileType;
use super::selection::{Links, Selection};
use super::walk::Item;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::init::files::{ROOT, make_dirs};

/// How often a name is replaced that appears again and again.
const ATTEMPTS: usize = 100;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A tree of the host that is copied into a container.
pub(super) struct HostSource {
    top: PathBuf,
    selection: Selection,
    budget: Budget,
    /// The directories on the way down, by their paths below the top.
    levels: Vec<(PathBuf, Dir)>,
}

impl HostSource {
    /// `top` itself may be a link.
    pub(super) fn open(top: &Path, selection: Selection, budget: Budget) -> Result<Self> {
        let dir = rustix::fs::open(top, DIRECTORY, Mode::empty()).and_then(Dir::new);
        let dir = dir.fail_at(ErrorKind::InvalidInput, Step::ReadDirectory, top)?;
        Ok(Self { top: top.to_owned(), selection, budget, levels: vec![(PathBuf::new(), dir)] })
    }

    /// The next part of the tree, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch::default();
        while let Some((dir_path, dir)) = self.levels.last_mut() {
            let Some(entry) = dir.next() else {
                self.levels.pop();
                continue;
            };
            let entry = entry.fail_at(ErrorKind::File, Step::ReadDirectory, self.top.join(&*dir_path))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = join(dir_path, name);
            self.budget.look_at(&path)?;
            let file_type = FileType::from_kernel(entry.file_type());
            self.add(&path, name, file_type, &mut batch).map_err(|error| error.at(self.top.join(&path)))?;
            if batch.is_full() {
                return Ok(Some(batch));
            }
        }
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }

    fn add(&mut self, path: &Path, name: &OsStr, file_type: Option<FileType>, batch: &mut Batch) -> Result<()> {
        let Some((_, dir)) = self.levels.last() else { return Ok(()) };
        let dir = dir.fd().fail(ErrorKind::Host, Step::ReadDirectory)?;
        let file_type = match file_type {
            Some(file_type) => file_type,
            None => {
                let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).fail(ErrorKind::File, Step::ReadMetadata)?;
                FileType::from_kernel(rustix::fs::FileType::from_raw_mode(stat.st_mode)).unwrap_or(FileType::Device)
            }
        };
        let is_taken = self.selection.takes(path);
        match file_type {
            FileType::Directory if self.selection.may_take_below(path) => {
                self.budget.check_depth(path)?;
                let child = openat(dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).and_then(Dir::new);
                let child = child.fail(ErrorKind::File, Step::ReadDirectory)?;
                if is_taken {
                    self.budget.take_entry(path)?;
                    let stat = child.stat().fail(ErrorKind::File, Step::ReadMetadata)?;
                    batch.add_directory(path.to_owned(), stat.st_mode);
                }
                self.levels.push((path.to_owned(), child));
            }
            _ if !is_taken => {}
            FileType::File => {
                self.budget.take_entry(path)?;
                // A FIFO that has taken the file's place would block.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                let file = File::from(openat(dir, name, flags, Mode::empty()).fail(ErrorKind::File, Step::Open)?);
                let metadata = file.metadata().fail(ErrorKind::File, Step::ReadMetadata)?;
                if !metadata.is_file() {
                    return Err(self.budget.refused(path, "not a regular file any more"));
                }
                self.budget.take_bytes(path, metadata.len())?;
                let content = Content::of_host(file, metadata.len()).fail(ErrorKind::File, Step::Read)?;
                batch.add_file(path.to_owned(), metadata.mode(), content);
            }
            FileType::Symlink => match self.selection.links() {
                Links::Skip => {}
                Links::Refuse => return Err(self.budget.refused(path, "a symbolic link, which this copy refuses")),
                Links::Keep => {
                    self.budget.take_entry(path)?;
                    let target = readlinkat(dir, name, Vec::new()).fail(ErrorKind::File, Step::ReadLink)?;
                    batch.add_link(path.to_owned(), OsStr::from_bytes(target.to_bytes()).into());
                }
            },
            special => return Err(self.budget.refused(path, format!("{} cannot be copied", special.name()))),
        }
        Ok(())
    }
}

/// A directory of the host that a copy out fills.
pub(super) struct HostTarget {
    path: PathBuf,
    top: OwnedFd,
    /// The directory of the last name.
    last: Option<(PathBuf, Arc<OwnedFd>)>,
}

impl HostTarget {
    /// Makes the directory if it is missing. `path` itself may be a link.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path).fail_at(ErrorKind::InvalidInput, Step::MakeDirectory, &path)?;
        let top = rustix::fs::open(&path, DIRECTORY, Mode::empty());
        Ok(Self { top: top.fail_at(ErrorKind::InvalidInput, Step::Open, &path)?, path, last: None })
    }

    /// Writes what a walk has found, until the copy's future is dropped.
    pub(super) fn write(&mut self, items: Vec<Item>, canceled: &CancellationToken) -> Result<()> {
        items.into_iter().take_while(|_| !canceled.is_cancelled()).try_for_each(|item| self.write_one(item, canceled))
    }

    fn write_one(&mut self, item: Item, canceled: &CancellationToken) -> Result<()> {
        match item {
            Item::Directory { path, attributes } => {
                let (dir, name) = self.parent(&path)?;
                // The caller has to be able to fill it.
                let mode = Mode::from_raw_mode(attributes.mode & 0o777 | 0o700);
                match mkdirat(&dir, name, mode) {
                    Err(rustix::io::Errno::EXIST) => {
                        openat(&dir, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map(drop)
                    }
                    made => made,
                }
                .fail_at(ErrorKind::File, Step::MakeDirectory, self.path.join(&path))
            }
            Item::File { path, file, bytes, attributes } => {
                let (dir, name) = self.parent(&path)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(attributes.mode & 0o777);
                let new = replace(&dir, name, || openat(&dir, name, flags, mode));
                let new = File::from(new.fail_at(ErrorKind::File, Step::Open, self.path.join(&path))?);
                content::copy(&file, &new, bytes, canceled).fail_at(ErrorKind::File, Step::Copy, self.path.join(&path))
            }
            Item::Link { path, target } => {
                let (dir, name) = self.parent(&path)?;
                replace(&dir, name, || symlinkat(&target, &dir, name)).fail_at(
                    ErrorKind::File,
                    Step::MakeSymlink,
                    self.path.join(&path),
                )
            }
        }
    }

    /// The open directory of a path, made if it is missing, and the name in it.
    fn parent<'a>(&mut self, path: &'a Path) -> Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or_else(|| Error::invalid("a path without a name"))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((_, dir)) = self.last.as_ref().filter(|(last, _)| last == parent) {
            return Ok((Arc::clone(dir), name));
        }
        let to_error = |failure| Error::failure(ErrorKind::File, failure).at(self.path.join(parent));
        let dir = Arc::new(make_dirs(&self.top, parent, ROOT).map_err(to_error)?);
        self.last = Some((parent.to_owned(), Arc::clone(&dir)));
        Ok((dir, name))
    }
}

/// Makes something new in place of a file or a link of that name. What the name led to before is
/// not touched.
fn replace<T>(dir: &OwnedFd, name: &OsStr, make: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
    for _ in 0..ATTEMPTS {
        match make() {
            Err(rustix::io::Errno::EXIST) => match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            },
            made => return Ok(made?),
        }
    }
    Err(rustix::io::Errno::EXIST.into())
}
