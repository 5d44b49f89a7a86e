//! From unpacked layers to one tree.
//!
//! Invariant: a file of the tree is a hard link to the file of a layer, so images share what their
//! layers share. Directories are the tree's own.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, Step};

use super::attributes::{Attributes, Directories};
use super::meter::Cancel;
use super::tree::{self, Tree, split};
use super::unpack::Layer;

/// A tree that layers are added to, the lowest first.
pub(super) struct Merge {
    tree: Tree,
    directories: Directories,
    cancel: Cancel,
}

impl Merge {
    /// Begins with an empty directory.
    pub(super) fn new(into: OwnedFd, cancel: Cancel) -> Self {
        Self { tree: Tree::new(into), directories: Directories::default(), cancel }
    }

    /// Adds a layer on top of the others.
    pub(super) fn add(&mut self, layer: &Layer, files: &Tree) -> Result<()> {
        self.hide(layer).map_err(failed)?;
        let mut path = Vec::new();
        let root = self.tree.directory(b"").map_err(failed)?;
        self.note_directory(layer, &path);
        let mut listing = files.list().map_err(failed)?;
        self.add_directory(layer, &mut listing, root.as_fd(), &mut path)
    }

    /// Sets the modes and times of the directories, once the last layer is added. Returns the
    /// attributes of the root, which the caller sets.
    pub(super) fn finish(self) -> Result<Attributes> {
        self.directories.apply(&self.tree).map_err(failed)?;
        Ok(self.directories.get(b"").unwrap_or_default())
    }

    /// Removes what a layer hides of those below it.
    fn hide(&mut self, layer: &Layer) -> rustix::io::Result<()> {
        for path in &layer.hidden {
            let (parent, name) = split(path);
            let Some(parent) = if_there(self.tree.directory(parent))? else { continue };
            tree::remove_named(&parent, name)?;
            self.directories.forget(path);
        }
        for path in &layer.opaque {
            let Some(directory) = if_there(self.tree.directory(path))? else { continue };
            tree::clear(directory.as_fd(), c".")?;
            self.directories.forget_below(path);
        }
        Ok(())
    }

    fn add_directory(&mut self, layer: &Layer, from: &mut Dir, to: BorrowedFd<'_>, path: &mut Vec<u8>) -> Result<()> {
        while let Some(entry) = from.read() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if tree::is_dot(name) {
                continue;
            }
            self.cancel.check()?;
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend(name.to_bytes());
            let parent = from.fd().map_err(failed)?;
            if is_directory(parent, name, entry.file_type()).map_err(failed)? {
                let below = tree::open_directory(parent, name).and_then(Dir::new);
                let directory = self.make_directory(to, name).map_err(failed)?;
                self.note_directory(layer, path);
                self.add_directory(layer, &mut below.map_err(failed)?, directory.as_fd(), path)?;
            } else {
                self.link(parent, to, name, path).map_err(failed)?;
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// A layer that has a directory's attributes sets them; otherwise those of the layer below
    /// stay.
    fn note_directory(&mut self, layer: &Layer, path: &[u8]) {
        match layer.directories.get(path) {
            Some(attributes) => self.directories.set(path, attributes),
            None => self.directories.add(path),
        }
    }

    /// Opens a directory of the tree. It takes the place of a file that was there.
    fn make_directory(&self, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
        let parent = Tree::new(parent.try_clone_to_owned().map_err(|_| Errno::MFILE)?);
        match parent.make_directory(name.to_bytes()) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                tree::remove(parent.directory(b"")?.as_fd(), name)?;
                parent.make_directory(name.to_bytes())
            }
            made => made,
        }
    }

    /// Links a file into the tree, in the place of what was there.
    fn link(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> rustix::io::Result<()> {
        match rustix::fs::linkat(from, name, to, name, AtFlags::empty()) {
            Err(Errno::EXIST) => {
                tree::remove(to, name)?;
                self.directories.forget(path);
                rustix::fs::linkat(from, name, to, name, AtFlags::empty())
            }
            linked => linked,
        }
    }
}

/// `None` where the way to a path does not exist, or is no way of directories.
fn if_there<T>(opened: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr, listed: FileType) -> rustix::io::Result<bool> {
    if listed != FileType::Unknown {
        return Ok(listed.is_dir());
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn failed(error: Errno) -> Error {
    Error::io(ErrorKind::Image, Step::LinkTree, error)
}
