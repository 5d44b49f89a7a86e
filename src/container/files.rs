//! A container's files, as its users see them.
//!
//! Invariant: no content passes through the init. It opens, links and deletes; the caller's process reads and writes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, Step};
use crate::wire::{MAX_FDS, MAX_INLINE, OpenRequest, Request, Symlink};

use super::Container;
use super::actor::{Message, PendingReply};
use super::open_file::OpenFile;

impl Container {
    /// Opens many regular files in one round trip. The results are in the order of the files; each is a file or an error
    /// of its own.
    ///
    /// Paths are resolved beneath the container's root without following symbolic links, and the opening never blocks:
    /// a link, a directory, a FIFO, a socket or a device is an error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for more than 4096 files and for flags that [`OpenFile::flags`] does not name.
    ///
    /// # Cancel safety
    /// Dropping the future closes the files that were opened; those that were made stay.
    pub async fn open(&self, files: impl IntoIterator<Item = OpenFile>) -> Result<Vec<Result<File>>> {
        let files: Vec<_> = files.into_iter().map(OpenRequest::from).collect();
        check_count(files.len())?;
        if let Some(file) = files.iter().find(|file| !flags_are_known(file.flags)) {
            return Err(Error::invalid(format!("unknown flags: {:#o}", file.flags)).at(&file.path));
        }
        let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        let results =
            self.ask(|answer| Message::Ask(Request::Open(files), PendingReply::Opened(paths.len(), answer))).await?;
        let named = |(result, path): (Result<OwnedFd>, _)| result.map(File::from).map_err(|error| error.at(path));
        Ok(results.into_iter().zip(paths).map(named).collect())
    }

    /// Writes a whole file: makes it with `mode`, and with the directories it needs, or replaces its content.
    ///
    /// # Errors
    /// As for one file of [`open`](Self::open), and the errors of writing: `ENOSPC` where the tmpfs is full.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the file empty, part-written, or be too late to stop it.
    pub async fn write(&self, path: impl AsRef<Path>, data: impl Into<Vec<u8>>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (mut file, data) = (self.open_one(OpenFile::write(path, mode).create_parents()).await?, data.into());
        let written = off_the_runtime(data.len(), move || file.write_all(&data)).await;
        written.map_err(|error| Error::io(ErrorKind::File, Step::Write, error).at(path))
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// As for one file of [`open`](Self::open), and `EFBIG` where the file is larger than `limit`, by its size or by what
    /// comes out of it. Nothing is allocated for a size alone.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_one(OpenFile::read(path)).await?;
        let failure = |error| Error::io(ErrorKind::File, Step::Read, error).at(path);
        let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
        let size = file.metadata().map_err(failure)?.len();
        if size > limit {
            return Err(failure(too_large()));
        }
        let read = move || {
            let mut data = Vec::new();
            // One more, to see a file that has grown since.
            file.take(limit.saturating_add(1)).read_to_end(&mut data)?;
            if data.len() as u64 > limit { Err(too_large()) } else { Ok(data) }
        };
        off_the_runtime(size as usize, read).await.map_err(failure)
    }

    /// Makes many symbolic links in one round trip, from pairs of what the link says and where it is. The results are in the
    /// order of the links. What a link says is not looked at; its directory must be there, and the path to it hold no link.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for more than 4096 links.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out, whether or not the future is dropped.
    pub async fn symlink<T: Into<PathBuf>, P: Into<PathBuf>>(
        &self,
        links: impl IntoIterator<Item = (T, P)>,
    ) -> Result<Vec<Result<()>>> {
        let symlink = |(target, path): (T, P)| Symlink { target: target.into(), path: path.into() };
        let links: Vec<_> = links.into_iter().map(symlink).collect();
        check_count(links.len())?;
        let paths: Vec<_> = links.iter().map(|link| link.path.clone()).collect();
        let results =
            self.ask(|answer| Message::Ask(Request::Symlink(links), PendingReply::Linked(paths.len(), answer))).await?;
        Ok(results.into_iter().zip(paths).map(|(result, path)| result.map_err(|error| error.at(path))).collect())
    }

    /// Deletes a file, or an empty directory. A symbolic link is deleted itself, and none is followed on the way.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `ENOENT`, `ENOTEMPTY`, `EROFS`, `ELOOP` or `ENOTDIR` for a
    /// link on the way.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out, whether or not the future is dropped.
    pub async fn delete(&self, path: impl AsRef<Path>) -> Result<()> {
        let request = Request::Delete(path.as_ref().into());
        self.ask(|answer| Message::Ask(request, PendingReply::Deleted(answer))).await
    }

    async fn open_one(&self, file: OpenFile) -> Result<File> {
        self.open([file]).await?.pop().unwrap_or_else(|| Err(Error::lost("an answer without a result")))
    }
}

fn flags_are_known(flags: i32) -> bool {
    let known = libc::O_ACCMODE | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_APPEND;
    flags & !known == 0 && flags & libc::O_ACCMODE != libc::O_ACCMODE
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_FDS {
        return Err(Error::invalid(format!("{count} files in one call; {MAX_FDS} are the most")));
    }
    Ok(())
}

/// Reads and writes of this size or less are done where they are asked for: a thread's wake-up costs more.
const SMALL: usize = 64 << 10;

async fn off_the_runtime<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if size <= SMALL {
        return work();
    }
    tokio::task::spawn_blocking(work).await?
}

const _: () = assert!(MAX_FDS * 24 < MAX_INLINE, "a failure for each file must fit in one frame");
