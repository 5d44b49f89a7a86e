//! Directories of a container, and what is in them.
//!
//! Invariant: a call ends, whatever programs do to the tree meanwhile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::listing::{ReadDir, is_gone};
use super::metadata::Metadata;
use crate::container::handle::Container;
use crate::container::message::Message;
use crate::container::reply::PendingReply;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::wire::{MakeDirectory, Rename, Request};

/// How many names [`Container::remove_dir_all`] looks at, and how many directories it opens. A
/// program may make them as fast as they are removed.
const MAX_REMOVED: Left = Left { names: 4 << 20, directories: 32 << 10 };

/// How often a directory may gain a name after all of its names were removed.
const MAX_REFUSALS: usize = 100;

impl Container {
    /// Makes a directory, and each missing one above it, with mode 0755. They belong to the
    /// program. A directory that exists stays as it is.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `ENOTDIR` for a file or a symbolic link on the
    /// way, `EROFS`, `ENOSPC`.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out, also if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.create_dir_all("out/logs").await?;
    /// # Ok(()) }
    /// ```
    pub async fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref().to_owned();
        let directory = MakeDirectory { path: path.clone(), mode: 0o755 };
        self.change_one(Request::MakeDirectories(vec![directory]), path).await
    }

    /// Opens a directory, to list its names. The path must not lead over a symbolic link.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `ENOENT`, `ENOTDIR`, `ELOOP` for a symbolic
    /// link.
    ///
    /// # Cancel safety
    /// Dropping the future closes the directory.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// let mut names = container.read_dir("out").await?;
    /// while let Some(entry) = names.next_entry().await? {
    ///     println!("{:?} {}", entry.file_type(), entry.file_name().display());
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        ReadDir::open(self, path.as_ref().to_owned()).await
    }

    /// The type, size, mode, owner and time of a file. A symbolic link is described itself, and the
    /// path must not lead over one. Nothing is opened: a FIFO or a device does not notice.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// let answer = container.metadata("answer.txt").await?;
    /// assert!(answer.is_file() && answer.len() < 1000);
    /// # Ok(()) }
    /// ```
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let request = Request::Metadata(path.as_ref().to_owned());
        self.mailbox.call(|sender| Message::Request(request, PendingReply::Metadata(sender))).await.map(Metadata)
    }

    /// The target of a symbolic link, which may be any string.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `EINVAL` if the path leads to something else
    /// than a link.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let request = Request::ReadLink(path.as_ref().to_owned());
        self.mailbox.call(|sender| Message::Request(request, PendingReply::Target(sender))).await
    }

    /// Gives a file, a symbolic link or a directory another name. A file or link that has that name
    /// is replaced, and so is an empty directory by a directory.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `ENOENT`, `ENOTEMPTY`, `EXDEV` between two
    /// mounts and for a directory of an overlay's lower layers.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out, also if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.rename("answer.tmp", "answer.txt").await?;
    /// # Ok(()) }
    /// ```
    pub async fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let request = Request::Rename(Rename { from: from.as_ref().to_owned(), to: to.as_ref().to_owned() });
        self.mailbox.call(|sender| Message::Request(request, PendingReply::Renamed(sender))).await
    }

    /// Deletes a directory with all that is in it. Links in it are deleted and not followed.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `ENOENT`; `ENOTDIR` or `ELOOP` for a file or a
    /// link; `EBUSY` or `EROFS` for a mount, whose content is gone then; `ENAMETOOLONG` for a
    /// directory below a path of 4096 bytes; `ENOTEMPTY` if a program makes files as fast as they
    /// are deleted, or after 4,194,304 names or 32,768 directories that are not empty. A reset
    /// empties such trees too.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the tree.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.remove_dir_all("out").await?;
    /// # Ok(()) }
    /// ```
    pub async fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        Removal { container: self, left: MAX_REMOVED }.remove(path.as_ref()).await
    }
}

struct Removal<'a> {
    container: &'a Container,
    left: Left,
}

/// What may still be looked at.
struct Left {
    names: usize,
    directories: usize,
}

impl Left {
    fn is_none(&self) -> bool {
        self.names == 0 || self.directories == 0
    }
}

/// A directory on the way down. It is not kept open, so the depth takes no descriptors.
struct Level {
    path: PathBuf,
    /// Its directories that are not empty.
    pending: Vec<OsString>,
    /// How often it was not empty when all of its names were removed.
    refusals: usize,
}

impl Removal<'_> {
    async fn remove(mut self, top: &Path) -> Result<()> {
        let mut levels = vec![Level { path: top.to_owned(), pending: Vec::new(), refusals: 0 }];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.pending.pop() {
                let path = level.path.join(name);
                levels.push(Level { path, pending: Vec::new(), refusals: 0 });
                continue;
            }
            if self.left.is_none() || level.refusals > MAX_REFUSALS {
                return Err(Error::new(ErrorKind::File, Step::Delete).errno(libc::ENOTEMPTY).at(&level.path));
            }
            match self.empty(&level.path).await {
                Ok(pending) => level.pending = pending,
                Err(error) if is_gone(&error) && level.path != top => {}
                Err(error) => return Err(error),
            }
            if level.pending.is_empty() {
                match self.container.delete(&level.path).await {
                    // A program may have made a name in it since.
                    Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => level.refusals += 1,
                    Err(error) if !is_gone(&error) => return Err(error),
                    _ => drop(levels.pop()),
                }
            }
        }
        Ok(())
    }

    /// Deletes what is in a directory, up to directories that are not empty. Returns up to one
    /// buffer of those.
    async fn empty(&mut self, dir: &Path) -> Result<Vec<OsString>> {
        self.left.directories -= 1;
        let mut names = self.container.read_dir(dir).await?;
        let mut pending = Vec::new();
        while pending.is_empty() && self.left.names > 0 {
            let entries = names.next_entries().await?;
            if entries.is_empty() {
                break;
            }
            self.left.names = self.left.names.saturating_sub(entries.len());
            let paths: Vec<_> = entries.iter().map(|entry| dir.join(entry.file_name())).collect();
            let results = self.container.change_each(Request::Delete(paths.clone()), paths).await?;
            for (entry, result) in entries.into_iter().zip(results) {
                match result {
                    Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {
                        pending.push(entry.file_name().to_owned());
                    }
                    Err(error) if is_gone(&error) => {}
                    result => result?,
                }
            }
        }
        Ok(pending)
    }
}
