//! Files that are copied into a container, from a tree of the host or from a tar stream.
//!
//! Invariant: no more than two batches of a copy are in memory: one is read while the other is
//! written.

#[cfg(feature = "tar")]
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Content};
use super::blocking::steps_off_the_runtime;
use super::content;
use super::host_tree::HostSource;
use super::open_file::OpenFile;
use crate::container::handle::Container;
use crate::error::{ErrorKind, Result, ResultExt, Step};
use crate::wire::{MakeDirectory, Request, Symlink};

/// The tree of a container that a copy in fills.
pub(super) struct Import<'a> {
    pub(super) container: &'a Container,
    pub(super) top: &'a Path,
    /// Tells blocking threads that the copy's future was dropped.
    pub(super) canceled: CancellationToken,
}

impl Import<'_> {
    /// Copies a tree of the host. One thread reads the next batch while this one is written.
    pub(super) async fn copy(&self, open: impl FnOnce() -> Result<HostSource> + Send + 'static) -> Result<()> {
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
        self.make_top().await?;
        while let Some(batch) = batches.recv().await {
            self.write(batch?).await?;
        }
        Ok(())
    }

    pub(super) async fn make_top(&self) -> Result<()> {
        self.container.create_dir_all(self.top).await
    }

    /// Writes a batch: directories, files, links.
    pub(super) async fn write(&self, batch: Batch) -> Result<()> {
        let Batch { directories, files, links, .. } = batch;
        self.make_directories(directories).await?;
        self.write_files(files).await?;
        self.make_links(links).await
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

    async fn write_files(&self, files: Vec<(PathBuf, u32, Content)>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let to_open = files.iter().map(|(path, mode, _)| OpenFile::write(self.top.join(path)).mode(*mode));
        let opened = self.container.open(to_open.map(OpenFile::create_parents)).await?;
        let canceled = self.canceled.clone();
        steps_off_the_runtime(move || {
            for (opened, (path, _, content)) in opened.into_iter().zip(files) {
                let mut file = opened?;
                let written = match content {
                    Content::Small(bytes) => file.write_all(&bytes),
                    Content::Host(from, bytes) => content::copy(&from, &file, bytes, &canceled),
                };
                written.fail_at(ErrorKind::File, Step::Write, path)?;
            }
            Ok(())
        })
        .await
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
