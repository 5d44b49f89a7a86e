//! What the mounts of a container are made of, and the places where they are attached.
//!
//! Invariant: a mount is attached beneath another one, at a place that is resolved without
//! following links.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use crate::error::{Failure, ResultExt, Step};
use crate::init::files::{ROOT, make_dirs, resolve};
use crate::init::null::copy_of_null;
use crate::sys::mount::{copy_mount, copy_tree, forbid, new_file_system, restrict_tree};
use crate::wire::{BindAccess, MountEntry, MountKind};

use super::file_systems::{new_empty_directory, new_proc};

/// The trees of each mount that does not belong to the container alone, and the lower layers of
/// each overlay. The host has attached some of them; the init makes the others.
pub(super) fn detached_trees(mounts: &[MountEntry], attached: Vec<Vec<OwnedFd>>) -> Result<Vec<Vec<OwnedFd>>, Failure> {
    let trees = mounts.iter().zip(attached).map(|(mount, attached)| match &mount.kind {
        MountKind::Bind { .. } | MountKind::Overlay { .. } if !attached.is_empty() => Ok(attached),
        MountKind::Bind { source, .. } => Ok(vec![copy_tree(source).step_at(Step::OpenBindSource, source)?]),
        MountKind::Overlay { lowers, .. } => {
            lowers.iter().map(|lower| copy_mount(lower).step_at(Step::OpenBindSource, lower)).collect()
        }
        MountKind::Tmpfs(_) | MountKind::File(_) | MountKind::Link(_) | MountKind::Proc(Some(_)) => Ok(Vec::new()),
        MountKind::Proc(None) => new_tree(mount, new_proc()),
        MountKind::FileSystem { name, options } => new_tree(mount, new_file_system(name, options, forbid::DEVICES)),
    });
    trees.collect()
}

fn new_tree(mount: &MountEntry, tree: io::Result<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    Ok(vec![tree.step_at(Step::Mount, &mount.target)?])
}

/// Forbids what programs may not do through a bind mount.
pub(super) fn restrict_bind(tree: &OwnedFd, access: BindAccess) -> io::Result<()> {
    let forbidden = match access {
        BindAccess::ReadOnly => forbid::WRITES | forbid::DEVICES,
        BindAccess::Writable => forbid::DEVICES,
        BindAccess::Device => forbid::WRITES | forbid::EXEC,
    };
    restrict_tree(tree, forbidden)
}

/// A detached mount that hides what is at a path beneath a directory: a file under the host's
/// /dev/null, a directory under an empty one. `None` if there is nothing to hide.
pub(super) fn cover_of(dir: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Failure> {
    let place = match resolve(dir, path, OFlag::O_PATH, 0) {
        // A link leads to a file that has a path of its own.
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => return Ok(None),
        place => place.step_at(Step::Mask, path)?,
    };
    let is_directory = is_directory(&place).step_at(Step::Mask, path)?;
    let cover = if is_directory { new_empty_directory() } else { copy_of_null() };
    cover.step_at(Step::Mask, path).map(Some)
}

pub(super) fn is_directory(fd: &OwnedFd) -> nix::Result<bool> {
    Ok(fstat(fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

/// Opens the place of a mount beneath a directory, and makes it if it is missing: a directory for a
/// directory, an empty file for anything else.
pub(super) fn make_place(dir: &OwnedFd, path: &Path, is_directory: bool) -> Result<OwnedFd, Failure> {
    if is_directory {
        return make_dirs(dir, path, ROOT);
    }
    let parent = make_dirs(dir, path.parent().unwrap_or(Path::new("")), ROOT)?;
    make_file(&parent, path.file_name().unwrap_or_default()).step_at(Step::Mount, path)
}

/// Opens a file, and creates it if it is missing.
fn make_file(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    match resolve(dir, Path::new(name), OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY, 0o644) {
        Ok(_) | Err(nix::Error::EEXIST) => resolve(dir, Path::new(name), OFlag::O_PATH, 0),
        Err(error) => Err(error),
    }
}
