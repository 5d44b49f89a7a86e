//! Files that are copied into a container, from a tree of the host or from a tar stream.
//!
//! Invariant: no more than five batches of a copy are in memory: one is read, one waits, two have
//! their files opened, and one is written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::batch::{Batch, Content};
use super::blocking::joined;
use super::content;
use super::host_tree::HostSource;
use super::open_file::OpenFile;
use crate::container::handle::Container;
use crate::error::{ErrorKind, Result, ResultExt, Step};
use crate::wire::{MakeDirectory, Request, Symlink};

/// The tree of a container that a copy in fills.
pub(super) struct Import<'a> {
    container: &'a Container,
    top: &'a Path,
    /// Tells blocking threads that the copy's future was dropped.
    canceled: CancellationToken,
    _guard: DropGuard,
}

/// A thread that writes contents of files.
type Writing = JoinHandle<Result<()>>;

struct OpenedBatch {
    files: Vec<(Result<File>, PathBuf, Content)>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// How many batches the init is asked to open before the first of them is written.
const OPENED_AHEAD: usize = 2;

impl<'a> Import<'a> {
    /// Makes the directory if it is missing.
    pub(super) async fn start(container: &'a Container, top: &'a Path) -> Result<Self> {
        container.create_dir_all(top).await?;
        let canceled = CancellationToken::new();
        let _guard = canceled.clone().drop_guard();
        Ok(Self { container, top, canceled, _guard })
    }

    /// Copies a tree of the host. One thread reads a batch while the init opens the files of the
    /// batches before it, and another thread writes the files of the one before those.
    pub(super) async fn copy(self, open: impl FnOnce() -> Result<HostSource> + Send + 'static) -> Result<()> {
        let (sender, mut batches) = mpsc::channel(1);
        spawn_blocking(move || {
            let mut source = match open() {
                Ok(source) => source,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            while let Some(batch) = source.next().transpose() {
                let is_last = batch.is_err();
                // The receiver is gone if the copy has failed, or if its future was dropped.
                if sender.blocking_send(batch).is_err() || is_last {
                    return;
                }
            }
        });
        let import = &self;
        let batches = stream::poll_fn(|context| batches.poll_recv(context));
        let opening = batches.map(|batch| async { import.open_batch(batch?).await });
        let mut opened = pin!(opening.buffered(OPENED_AHEAD));
        let mut writing = None;
        while let Some(batch) = opened.next().await {
            writing = Some(import.begin(batch?, writing).await?);
        }
        finish(writing).await
    }

    /// Writes a batch whose files may have been written before.
    #[cfg(feature = "tar")]
    pub(super) async fn write(&self, batch: Batch) -> Result<()> {
        let opened = self.open_batch(batch).await?;
        finish(Some(self.begin(opened, None).await?)).await
    }

    /// Makes the directories of a batch, and opens its files.
    async fn open_batch(&self, batch: Batch) -> Result<OpenedBatch> {
        let Batch { directories, files, links, .. } = batch;
        let to_open = files.iter().map(|(path, mode, _)| OpenFile::write(self.top.join(path)).mode(*mode));
        let to_open: Vec<_> = to_open.map(OpenFile::create_parents).collect();
        // In this order, and without a wait between the two.
        let (made, opened) = tokio::join!(biased; self.make_directories(directories), self.open_all(to_open));
        made?;
        let files = opened?.into_iter().zip(files).map(|(opened, (path, _, content))| (opened, path, content));
        Ok(OpenedBatch { files: files.collect(), links })
    }

    /// Waits for the last batch, has a thread write the contents of this one, and makes its links.
    async fn begin(&self, batch: OpenedBatch, last: Option<Writing>) -> Result<Writing> {
        finish(last).await?;
        let writing = self.write_contents(batch.files);
        self.make_links(batch.links).await?;
        Ok(writing)
    }

    /// Opens one file, with the directories that it needs.
    #[cfg(feature = "tar")]
    pub(super) async fn open(&self, path: &Path, mode: u32) -> Result<File> {
        self.container.open_one(OpenFile::write(self.top.join(path)).mode(mode & 0o777).create_parents()).await
    }

    async fn make_directories(&self, directories: Vec<(PathBuf, u32)>) -> Result<()> {
        if directories.is_empty() {
            return Ok(());
        }
        let directories = directories.into_iter().map(|(path, mode)| MakeDirectory { path: self.top.join(path), mode });
        let directories: Vec<_> = directories.collect();
        let paths = directories.iter().map(|directory| directory.path.clone()).collect();
        self.container.change_each(Request::MakeDirectories(directories), paths).await?.into_iter().collect()
    }

    async fn open_all(&self, files: Vec<OpenFile>) -> Result<Vec<Result<File>>> {
        if files.is_empty() { Ok(Vec::new()) } else { self.container.open(files).await }
    }

    fn write_contents(&self, files: Vec<(Result<File>, PathBuf, Content)>) -> Writing {
        let (canceled, top) = (self.canceled.clone(), self.top.to_owned());
        spawn_blocking(move || {
            for (opened, path, content) in files {
                let mut file = opened?;
                let written = match content {
                    Content::Small(bytes) => file.write_all(&bytes),
                    Content::Host(from, bytes) => content::copy(&from, &file, bytes, &canceled),
                };
                written.fail_at(ErrorKind::File, Step::Write, top.join(path))?;
            }
            Ok(())
        })
    }

    async fn make_links(&self, links: Vec<(PathBuf, PathBuf)>) -> Result<()> {
        if links.is_empty() {
            return Ok(());
        }
        let links = links.into_iter().map(|(path, target)| Symlink { path: self.top.join(path), target });
        let links: Vec<_> = links.collect();
        let paths = links.iter().map(|link| link.path.clone()).collect();
        let results = self.container.change_each(Request::Symlink(links.clone()), paths).await?;
        for (result, link) in results.into_iter().zip(links) {
            match result {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.replace_link(link).await?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Makes a link in place of another link. Nothing else is replaced by one.
    async fn replace_link(&self, link: Symlink) -> Result<()> {
        if self.container.metadata(&link.path).await?.is_symlink() {
            self.container.delete(&link.path).await?;
        }
        let path = link.path.clone();
        self.container.change_one(Request::Symlink(vec![link]), path).await
    }
}

async fn finish(writing: Option<Writing>) -> Result<()> {
    match writing {
        Some(mut writing) => joined(&mut writing).await,
        None => Ok(()),
    }
}
