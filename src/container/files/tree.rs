//! Trees that are copied into a container and out of it.

use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::blocking::{joined, steps_off_the_runtime};
use super::budget::{Budget, Caps};
use super::content;
use super::host_tree::{HostSource, HostTarget};
use super::import::Import;
use super::pattern::Pattern;
use super::selection::{Links, Selection};
use super::walk::{Item, Walk};
use crate::container::handle::Container;
use crate::error::{ErrorKind, Result, ResultExt, Step};

/// A directory of a container, with all that is in it, to copy in or out: [`Container::tree`].
///
/// Each call copies. A copy takes regular files, directories and symbolic links; a FIFO, a socket
/// or a device is an error that names it. Modes are kept without the set-id and sticky bits; owners
/// and times are not. A file with several names becomes several files.
///
/// **Nothing follows a symbolic link below the top of a tree**, inside or on the host, so no copy
/// reads or writes outside of its two trees. A link is copied as a link, and its target may be any
/// text: a reader of a copy out must not follow it. [`links`](Self::links) leaves links out.
///
/// **A copy is bounded**, because programs make trees of any size: 256 MiB, 10,000 files,
/// directories and links, and 64 names below each other, unless [`max_bytes`](Self::max_bytes),
/// [`max_entries`](Self::max_entries) and [`max_depth`](Self::max_depth) say otherwise. A copy
/// never looks at more than 1,048,576 names. A tree over a cap is an error of kind
/// [`File`](ErrorKind::File) with errno `EFBIG`; what was copied before stays. At most 256 files of
/// a tree are open at a time, and at most 4 MiB of it are in memory, except for
/// [`read`](Self::read).
///
/// Programs that run meanwhile may change the tree. The copy then has some of the changes and not
/// others. A file that was removed is left out, one that grows is cut at the size that it had when
/// it was opened, and a name that becomes another type of file is an error.
#[derive(Clone, Debug)]
#[must_use]
pub struct Tree<'a> {
    pub(super) container: &'a Container,
    pub(super) path: PathBuf,
    pub(super) caps: Caps,
    pub(super) selection: Selection,
}

impl Container {
    /// A directory of the container, to copy in or out.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// let outputs = container.tree("out").matching("*.txt").max_bytes(1 << 20).max_entries(100);
    /// for (path, content) in outputs.read().await? {
    ///     println!("{}: {} bytes", path.display(), content.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn tree(&self, path: impl Into<PathBuf>) -> Tree<'_> {
        Tree { container: self, path: path.into(), caps: Caps::default(), selection: Selection::default() }
    }

    /// Copies what is in a directory of the host into a directory of the container, which is made
    /// if it is missing. [`Tree::copy_in`] with the default caps.
    ///
    /// # Errors
    /// As [`Tree::copy_in`].
    ///
    /// # Cancel safety
    /// As [`Tree::copy_in`].
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// container.copy_in("/srv/submissions/17", "src").await?;
    /// container.copy_out("out", "/srv/results/17").await?;
    /// # Ok(()) }
    /// ```
    pub async fn copy_in(&self, dir: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        self.tree(path.as_ref()).copy_in(dir).await
    }

    /// Copies what is in a directory of the container into a directory of the host, which is made
    /// if it is missing. [`Tree::copy_out`] with the default caps.
    ///
    /// # Errors
    /// As [`Tree::copy_out`].
    ///
    /// # Cancel safety
    /// As [`Tree::copy_out`].
    pub async fn copy_out(&self, path: impl AsRef<Path>, dir: impl AsRef<Path>) -> Result<()> {
        self.tree(path.as_ref()).copy_out(dir).await
    }
}

impl Tree<'_> {
    /// Takes only files, links and directories whose whole path below the tree matches. In a name
    /// `*` stands for any bytes and `?` for one, also at its beginning. `**` as a name stands for
    /// any directories, also for none: `*.txt`, `out/**`, `**/*.log`.
    ///
    /// A directory that does not match is made where a file in it needs it, with mode 0755.
    pub fn matching(mut self, pattern: &str) -> Self {
        self.selection.pattern = Some(Pattern::new(pattern));
        self
    }

    /// What to do with symbolic links. [`Links::Keep`] by default.
    pub fn links(mut self, links: Links) -> Self {
        self.selection.links = links;
        self
    }

    /// The most bytes of all files together. 256 MiB by default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.caps.bytes = bytes;
        self
    }

    /// The most files, directories and links. 10,000 by default.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.caps.entries = entries;
        self
    }

    /// The most names of a path below the tree. 64 by default. A path has at most 4096 bytes.
    pub fn max_depth(mut self, names: usize) -> Self {
        self.caps.depth = names;
        self
    }

    /// Copies what is in a directory of the host into this tree, which is made if it is missing.
    ///
    /// A file that exists gets the new content and keeps its mode. A link replaces a link. A new
    /// file belongs to the program.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `dir` cannot be opened. [`ErrorKind::File`] with the path in
    /// the container or on the host: a cap, a special file, an unreadable file of the host, and the
    /// errors of [`Container::open`]: `ELOOP` for a link on the way inside, `ENOSPC`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the tree in the container. Nothing is made on the host.
    pub async fn copy_in(self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref().to_owned();
        let (selection, budget) = (self.selection.clone(), Budget::new(self.caps, &dir));
        Import::start(self.container, &self.path).await?.copy(move || HostSource::open(&dir, selection, budget)).await
    }

    /// Copies what is in this tree into a directory of the host, which is made if it is missing.
    ///
    /// A file or a link of the host with the same name is replaced by a new one, and what it led to
    /// is not touched. New directories can be read and written by the caller, whatever their mode
    /// was, and the process's umask applies.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `dir` cannot be made or opened. [`ErrorKind::File`] with the
    /// path in the container or on the host: a cap, a special file, a link where a directory is
    /// needed, a full disk.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the copy on the host. The last file may be incomplete.
    pub async fn copy_out(self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref().to_owned();
        let mut walk = self.walk().await?;
        let mut work = spawn_blocking(move || HostTarget::open(dir));
        let canceled = CancellationToken::new();
        let _guard = canceled.clone().drop_guard();
        // The init opens the next files while a thread writes these.
        loop {
            let items = walk.next().await?;
            let mut target = joined(&mut work).await?;
            let Some(items) = items else { return Ok(()) };
            let canceled = canceled.clone();
            work = spawn_blocking(move || target.write(items, &canceled).map(|()| target));
        }
    }

    /// Reads the regular files of this tree into memory: their paths below it, and their contents.
    /// Directories, links and special files are left out. The order is the file system's.
    ///
    /// The caps bound the memory: [`max_bytes`](Self::max_bytes) the contents and
    /// [`max_entries`](Self::max_entries) the paths.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the path in the container: a cap, or a directory that cannot be
    /// opened.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn read(self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut walk = self.walk_of(Selection { only_files: true, ..self.selection.clone() }).await?;
        let mut contents = Vec::new();
        while let Some(items) = walk.next().await? {
            contents.extend(steps_off_the_runtime(move || read_all(items)).await?);
        }
        Ok(contents)
    }

    pub(super) async fn walk(&self) -> Result<Walk<'_>> {
        self.walk_of(self.selection.clone()).await
    }

    async fn walk_of(&self, selection: Selection) -> Result<Walk<'_>> {
        Walk::start(self.container, &self.path, selection, Budget::new(self.caps, &self.path)).await
    }
}

fn read_all(items: Vec<Item>) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut contents = Vec::new();
    for item in items {
        if let Item::File { path, file, bytes, .. } = item {
            let content = content::read(&file, bytes).fail_at(ErrorKind::File, Step::Read, &path)?;
            contents.push((path, content));
        }
    }
    Ok(contents)
}
