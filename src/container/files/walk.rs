//! A walk over a tree of a container.
//!
//! Invariant: a walk holds one buffer of names for each directory on its way down, and opens one
//! buffer of files at a time. It ends, because it looks at a bounded number of names.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::listing::{Attributes, DirEntry, ReadDir, is_gone, join};
use super::metadata::FileType;
use super::open_file::OpenFile;
use super::selection::{Links, Selection};
use crate::container::handle::Container;
use crate::error::{ErrorKind, Result, ResultExt, Step};

/// What a walk finds. The paths start at the top of the tree.
#[derive(Debug)]
pub(super) enum Item {
    Directory { path: PathBuf, attributes: Attributes },
    File { path: PathBuf, file: File, bytes: u64, attributes: Attributes },
    Link { path: PathBuf, target: PathBuf },
}

pub(super) struct Walk<'a> {
    container: &'a Container,
    top: PathBuf,
    selection: Selection,
    budget: Budget,
    levels: Vec<Level>,
}

struct Level {
    path: PathBuf,
    names: ReadDir,
    /// Directories whose names were read, and that are not walked yet.
    pending: Vec<OsString>,
}

impl<'a> Walk<'a> {
    pub(super) async fn start(
        container: &'a Container,
        top: &Path,
        selection: Selection,
        budget: Budget,
    ) -> Result<Self> {
        let names = container.read_dir(top).await?;
        let levels = vec![Level { path: PathBuf::new(), names, pending: Vec::new() }];
        Ok(Self { container, top: top.to_owned(), selection, budget, levels })
    }

    /// The next items, or `None` at the end. A directory comes before what is in it. What a program
    /// has removed since its name was read is left out.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Item>>> {
        while let Some(level) = self.levels.last_mut() {
            let items = if let Some(name) = level.pending.pop() {
                let path = join(&level.path, &name);
                self.descend(path).await?
            } else {
                let entries = level.names.next_entries().await?;
                if entries.is_empty() {
                    self.levels.pop();
                    continue;
                }
                self.look_at(entries).await?
            };
            if !items.is_empty() {
                return Ok(Some(items));
            }
        }
        Ok(None)
    }

    async fn descend(&mut self, path: PathBuf) -> Result<Vec<Item>> {
        self.budget.check_depth(&path)?;
        let names = match self.container.read_dir(self.top.join(&path)).await {
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            names => names?,
        };
        let mut items = Vec::new();
        if self.selection.takes(&path) && !self.selection.is_of_files() {
            self.budget.take_entry(&path)?;
            items.push(Item::Directory { path: path.clone(), attributes: names.attributes() });
        }
        self.levels.push(Level { path, names, pending: Vec::new() });
        Ok(items)
    }

    /// Opens the files and reads the links of a directory.
    async fn look_at(&mut self, entries: Vec<DirEntry>) -> Result<Vec<Item>> {
        let (mut items, mut files) = (Vec::new(), Vec::new());
        for entry in entries {
            let Some(level) = self.levels.last_mut() else { break };
            let path = join(&level.path, entry.file_name());
            self.budget.look_at(&path)?;
            match entry.file_type() {
                FileType::Directory if self.selection.may_take_below(&path) => {
                    level.pending.push(entry.file_name().to_owned());
                }
                FileType::Directory => {}
                _ if !self.selection.takes(&path) => {}
                FileType::File => {
                    self.budget.take_entry(&path)?;
                    files.push(path);
                }
                _ if self.selection.is_of_files() => {}
                FileType::Symlink => items.extend(self.read_link(path).await?),
                special => return Err(self.budget.refused(&path, format!("{} cannot be copied", special.name()))),
            }
        }
        self.open_files(files, &mut items).await?;
        Ok(items)
    }

    async fn read_link(&mut self, path: PathBuf) -> Result<Option<Item>> {
        match self.selection.links() {
            Links::Skip => return Ok(None),
            Links::Refuse => return Err(self.budget.refused(&path, "a symbolic link, which this copy refuses")),
            Links::Keep => {}
        }
        self.budget.take_entry(&path)?;
        match self.container.read_link(self.top.join(&path)).await {
            Ok(target) => Ok(Some(Item::Link { path, target })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn open_files(&mut self, paths: Vec<PathBuf>, items: &mut Vec<Item>) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let opened = self.container.open(paths.iter().map(|path| OpenFile::read(self.top.join(path)))).await?;
        for (file, path) in opened.into_iter().zip(paths) {
            let file = match file {
                Err(error) if is_gone(&error) => continue,
                file => file?,
            };
            let metadata = file.metadata().fail_at(ErrorKind::Host, Step::ReadMetadata, &path)?;
            self.budget.take_bytes(&path, metadata.len())?;
            let attributes = Attributes { mode: metadata.mode() & 0o7777, modified: metadata.mtime() };
            items.push(Item::File { path, file, bytes: metadata.len(), attributes });
        }
        Ok(())
    }
}
