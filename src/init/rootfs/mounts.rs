//! The mounts of a container: their trees, and where they are attached.
//!
//! Invariant: a mount is attached beneath the root, at a place that is resolved without following
//! links.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use crate::error::{Failure, ResultExt, Step};
use crate::init::files::{ROOT, make_dirs, resolve};
use crate::init::null::copy_of_null;
use crate::sys::mount::{attach, copy_mount, copy_tree, forbid, new_file_system, restrict_tree};
use crate::wire::{BindAccess, Ids, MountEntry, MountKind};

use super::file_systems::{new_empty_directory, new_proc, new_tmpfs};
use super::overlay::{attach_layers, mount_overlay};

/// The trees of each mount. The host has attached some of them; the init makes the others.
pub(super) fn detached_trees(
    mounts: &[MountEntry],
    attached: Vec<Vec<OwnedFd>>,
    program: Ids,
) -> Result<Vec<Vec<OwnedFd>>, Failure> {
    let trees = mounts.iter().zip(attached).map(|(mount, attached)| match &mount.kind {
        MountKind::Bind { .. } | MountKind::Overlay { .. } if !attached.is_empty() => Ok(attached),
        MountKind::Bind { source, .. } => Ok(vec![copy_tree(source).step_at(Step::OpenBindSource, source)?]),
        MountKind::Overlay { lowers, .. } => {
            lowers.iter().map(|lower| copy_mount(lower).step_at(Step::OpenBindSource, lower)).collect()
        }
        MountKind::Tmpfs(tmpfs) => new_tree(mount, new_tmpfs(*tmpfs, program)),
        MountKind::Proc => new_tree(mount, new_proc()),
        MountKind::FileSystem { name, options } => new_tree(mount, new_file_system(name, options, forbid::DEVICES)),
    });
    trees.collect()
}

/// The trees of mounts that a reset takes away: a new tmpfs, or a copy of what is mounted now. An
/// overlay needs none, because its lower layers stay where they are.
pub(super) fn renewed_trees(mounts: &[&MountEntry], program: Ids) -> Result<Vec<Vec<OwnedFd>>, Failure> {
    let trees = mounts.iter().map(|mount| match &mount.kind {
        MountKind::Overlay { .. } => Ok(Vec::new()),
        MountKind::Tmpfs(tmpfs) => new_tree(mount, new_tmpfs(*tmpfs, program)),
        _ => new_tree(mount, copy_tree(&mount.target)),
    });
    trees.collect()
}

fn new_tree(mount: &MountEntry, tree: io::Result<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    Ok(vec![tree.step_at(Step::Mount, &mount.target)?])
}

/// Makes the place of a mount beneath the root and attaches the mount there.
pub(super) fn attach_mount(root: &OwnedFd, mount: &MountEntry, trees: &[OwnedFd], program: Ids) -> Result<(), Failure> {
    let MountEntry { target, kind, .. } = mount;
    if let MountKind::Overlay { lowers, upper } = kind {
        let place = make_dirs(root, target, ROOT)?;
        attach_layers(&place, trees).step_at(Step::Mount, target)?;
        return mount_overlay(root, target, lowers.len(), *upper, program).step_at(Step::Mount, target);
    }
    let [tree] = trees else { return Err(Failure::at(Step::Mount, target, nix::Error::EBADMSG)) };
    if let MountKind::Bind { access, .. } = kind {
        restrict_tree(tree, forbidden(*access)).step_at(Step::Mount, target)?;
    }
    let place = if is_directory(tree).step_at(Step::Mount, target)? {
        make_dirs(root, target, ROOT)?
    } else {
        let parent = make_dirs(root, target.parent().unwrap_or(Path::new("")), ROOT)?;
        make_file(&parent, target.file_name().unwrap_or_default()).step_at(Step::Mount, target)?
    };
    attach(tree, place).step_at(Step::Mount, target)
}

/// Attaches a mount again that a reset has taken away.
pub(super) fn restore_mount(
    root: &OwnedFd,
    mount: &MountEntry,
    trees: &[OwnedFd],
    program: Ids,
) -> Result<(), Failure> {
    match &mount.kind {
        MountKind::Overlay { lowers, upper } => {
            mount_overlay(root, &mount.target, lowers.len(), *upper, program).step_at(Step::Mount, &mount.target)
        }
        _ => attach_mount(root, mount, trees, program),
    }
}

/// Hides what is at a path beneath the root, if anything is: a file under the host's /dev/null, a
/// directory under an empty one.
pub(super) fn hide(root: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let place = match resolve(root, relative, OFlag::O_PATH, 0) {
        // There is nothing to hide. A link leads to a file that has a path of its own.
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => return Ok(()),
        place => place.step_at(Step::Mask, path)?,
    };
    let is_directory = is_directory(&place).step_at(Step::Mask, path)?;
    let cover = if is_directory { new_empty_directory() } else { copy_of_null() };
    attach(cover.step_at(Step::Mask, path)?, place).step_at(Step::Mask, path)
}

fn forbidden(access: BindAccess) -> u64 {
    match access {
        BindAccess::ReadOnly => forbid::WRITES | forbid::DEVICES,
        BindAccess::Writable => forbid::DEVICES,
        BindAccess::Device => forbid::WRITES | forbid::EXEC,
    }
}

fn is_directory(fd: &OwnedFd) -> nix::Result<bool> {
    Ok(fstat(fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

/// Opens a file, and creates it if it is missing.
fn make_file(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    match resolve(dir, Path::new(name), OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY, 0o644) {
        Ok(_) | Err(nix::Error::EEXIST) => resolve(dir, Path::new(name), OFlag::O_PATH, 0),
        Err(error) => Err(error),
    }
}
