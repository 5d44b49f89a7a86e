//! Single files of a container: opened, written, read, linked and deleted.
//!
//! Invariant: no content passes through the init. It opens, links and deletes; the caller's process
//! reads and writes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::wire::{MAX_FDS, MAX_INLINE, OpenRequest, Request, Symlink};

use super::blocking::off_the_runtime;
use super::open_file::OpenFile;
use crate::container::handle::Container;
use crate::container::message::Message;
use crate::container::reply::PendingReply;

impl Container {
    /// Opens many regular files in one round trip. The results are in the order of the files. Each
    /// is a file or an error of its own.
    ///
    /// Paths are resolved beneath the container's root without following symbolic links. Opening
    /// never blocks: a link, a directory, a FIFO, a socket or a device is an error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for more than 4096 files, and for flags that [`OpenFile::flags`]
    /// does not name.
    ///
    /// # Cancel safety
    /// Dropping the future closes the files that were opened. Files that were made stay.
    ///
    /// ```no_run
    /// # use cellblock::Container;
    /// # async fn example(container: &Container) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    ///
    /// use cellblock::container::OpenFile;
    ///
    /// let paths = (1..=3).map(|number| format!("tests/{number}.in"));
    /// let inputs = paths.map(|path| OpenFile::write(path).create_parents());
    /// for file in container.open(inputs).await? {
    ///     file?.write_all(b"6 7\n")?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn open(&self, files: impl IntoIterator<Item = OpenFile>) -> Result<Vec<Result<File>>> {
        let files: Vec<_> = files.into_iter().map(OpenRequest::from).collect();
        check_count(files.len())?;
        if let Some(file) = files.iter().find(|file| !flags_are_known(file.flags)) {
            return Err(Error::invalid(format!("unknown flags: {:#o}", file.flags)).at(&file.path));
        }
        let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        let request = Request::Open(files);
        let results =
            self.mailbox.call(|sender| Message::Request(request, PendingReply::Opened(paths.len(), sender))).await?;
        let with_path = |(result, path): (Result<OwnedFd>, PathBuf)| match result {
            Ok(fd) => Ok(File::from(fd)),
            Err(error) => Err(error.at(path)),
        };
        Ok(results.into_iter().zip(paths).map(with_path).collect())
    }

    /// Writes a whole file. Makes it with mode 0644 and with the directories that it needs, or
    /// replaces its content. [`file`](Self::file) writes a file with another mode.
    ///
    /// # Errors
    /// As for one file of [`open`](Self::open), and the errors of writing: `ENOSPC` if the tmpfs is
    /// full.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the file empty, partly written or complete.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.write("main.py", "print(6 * 7)\n").await?;
    /// # Ok(()) }
    /// ```
    pub async fn write(&self, path: impl AsRef<Path>, data: impl Into<Vec<u8>>) -> Result<()> {
        self.file(path.as_ref()).write(data).await
    }

    /// A file to write with another mode than 0644.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.file("tool").mode(0o755).write("#!/bin/sh\necho found\n").await?;
    /// # Ok(()) }
    /// ```
    pub fn file(&self, path: impl Into<PathBuf>) -> NewFile<'_> {
        NewFile { container: self, path: path.into(), mode: OpenFile::DEFAULT_MODE }
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// # Errors
    /// As for one file of [`open`](Self::open). `EFBIG` if the file is larger than `limit`, by its
    /// size or by the bytes that come out of it. The size alone allocates nothing.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// let answer = container.read("answer.txt", 64 << 10).await?;
    /// # Ok(()) }
    /// ```
    pub async fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_one(OpenFile::read(path)).await?;
        read_up_to(file, limit).await.fail_at(ErrorKind::File, Step::Read, path)
    }

    /// Makes many symbolic links in one round trip. Each link is a target and the path of the link.
    /// The results are in the order of the links.
    ///
    /// The target may be any string. The directory of the link must exist, and the path to it must
    /// not lead over a symbolic link.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for more than 4096 links.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out, also if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// for result in container.symlink([("/usr/bin/python3", "python")]).await? {
    ///     result?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn symlink<T: Into<PathBuf>, P: Into<PathBuf>>(
        &self,
        links: impl IntoIterator<Item = (T, P)>,
    ) -> Result<Vec<Result<()>>> {
        let symlink = |(target, path): (T, P)| Symlink { target: target.into(), path: path.into() };
        let links: Vec<_> = links.into_iter().map(symlink).collect();
        let paths: Vec<_> = links.iter().map(|link| link.path.clone()).collect();
        self.change_each(Request::Symlink(links), paths).await
    }

    /// Deletes a file, a symbolic link or an empty directory. The path to it must not lead over a
    /// symbolic link. [`remove_dir_all`](Self::remove_dir_all) deletes a directory with its
    /// content.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the kernel's errno: `ENOENT`, `ENOTEMPTY`, `EROFS`, and `ELOOP` or
    /// `ENOTDIR` for a symbolic link on the way.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out, also if the future is dropped.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.delete("answer.txt").await?;
    /// # Ok(()) }
    /// ```
    pub async fn delete(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref().to_owned();
        self.change_one(Request::Delete(vec![path.clone()]), path).await
    }

    /// Sends a request that has one result for each of these paths.
    pub(super) async fn change_each(&self, request: Request, paths: Vec<PathBuf>) -> Result<Vec<Result<()>>> {
        check_count(paths.len())?;
        let results =
            self.mailbox.call(|sender| Message::Request(request, PendingReply::Each(paths.len(), sender))).await?;
        Ok(results.into_iter().zip(paths).map(|(result, path)| result.map_err(|error| error.at(path))).collect())
    }

    pub(super) async fn change_one(&self, request: Request, path: PathBuf) -> Result<()> {
        self.change_each(request, vec![path]).await?.pop().unwrap_or_else(|| Err(Error::lost("no result")))
    }

    pub(super) async fn open_one(&self, file: OpenFile) -> Result<File> {
        self.open([file]).await?.pop().unwrap_or_else(|| Err(Error::lost("a reply without a result")))
    }
}

/// A file to write: [`Container::file`].
#[derive(Debug)]
#[must_use]
pub struct NewFile<'a> {
    container: &'a Container,
    path: PathBuf,
    mode: u32,
}

impl NewFile<'_> {
    /// The permissions of the file if it is new, such as `0o755`. A file that exists keeps its own.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// Writes the whole file, as [`Container::write`] does and with its errors.
    ///
    /// # Cancel safety
    /// As [`Container::write`].
    pub async fn write(self, data: impl Into<Vec<u8>>) -> Result<()> {
        let Self { container, path, mode } = self;
        let data = data.into();
        let mut file = container.open_one(OpenFile::write(&path).mode(mode).create_parents()).await?;
        let written = off_the_runtime(move || file.write_all(&data)).await;
        written.fail_at(ErrorKind::File, Step::Write, path)
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

async fn read_up_to(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
    let size = file.metadata()?.len();
    if size > limit {
        return Err(too_large());
    }
    let read = move || {
        let mut data = Vec::new();
        // One byte more shows that the file has grown since.
        file.take(limit.saturating_add(1)).read_to_end(&mut data)?;
        if data.len() as u64 > limit { Err(too_large()) } else { Ok(data) }
    };
    off_the_runtime(read).await
}

const _: () = assert!(MAX_FDS * 24 < MAX_INLINE, "a failure for each file must fit in one frame");
