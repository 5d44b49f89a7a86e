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
use nix::unistd::symlinkat;

use crate::error::{Failure, ResultExt, Step};
use crate::init::files::{ROOT, make_dirs, resolve};
use crate::init::null::copy_of_null;
use crate::sys::mount::{attach, copy_mount, copy_tree, forbid, new_file_system, restrict_tree};
use crate::wire::{BindAccess, Content, Ids, MountEntry, MountKind};

use super::content::make_file_at;
use super::file_systems::{new_empty_directory, new_proc, new_tmpfs, new_whole_proc};
use super::machine_proc::{ProcLinks, attach_machine_proc};
use super::overlay::{attach_layers, mount_overlay};

/// The trees of each mount. The host has attached some of them; the init makes the others.
pub(super) fn detached_trees(
    mounts: &[MountEntry],
    attached: Vec<OwnedFd>,
    program: Ids,
) -> Result<Vec<Vec<OwnedFd>>, Failure> {
    let mut attached = attached.into_iter();
    let trees = mounts.iter().map(|mount| match &mount.kind {
        MountKind::Bind { .. } | MountKind::Overlay { .. } if mount.trees > 0 => {
            Ok(attached.by_ref().take(mount.trees).collect())
        }
        MountKind::Bind { source, .. } => Ok(vec![copy_tree(source).step_at(Step::OpenBindSource, source)?]),
        MountKind::Overlay { lowers, .. } => {
            lowers.iter().map(|lower| copy_mount(lower).step_at(Step::OpenBindSource, lower)).collect()
        }
        MountKind::Tmpfs(tmpfs) => new_tree(mount, new_tmpfs(*tmpfs, program)),
        MountKind::Proc(None) => new_tree(mount, new_proc()),
        MountKind::Proc(Some(_)) => new_tree(mount, new_whole_proc()),
        MountKind::File(_) | MountKind::Link(_) => Ok(Vec::new()),
        MountKind::FileSystem { name, options } => new_tree(mount, new_file_system(name, options, forbid::DEVICES)),
    });
    trees.collect()
}

/// The trees of mounts that a reset takes away: a new tmpfs, or a copy of what is mounted now. An
/// overlay needs none, because its lower layers stay where they are, and a file is written again.
pub(super) fn renewed_trees(mounts: &[&MountEntry], program: Ids) -> Result<Vec<Vec<OwnedFd>>, Failure> {
    let trees = mounts.iter().map(|mount| match &mount.kind {
        MountKind::Overlay { .. } | MountKind::File(_) | MountKind::Link(_) => Ok(Vec::new()),
        MountKind::Tmpfs(tmpfs) => new_tree(mount, new_tmpfs(*tmpfs, program)),
        _ => new_tree(mount, copy_tree(&mount.target)),
    });
    trees.collect()
}

fn new_tree(mount: &MountEntry, tree: io::Result<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    Ok(vec![tree.step_at(Step::Mount, &mount.target)?])
}

/// Who owns what the init makes at a path: the program within the container's own file systems, and
/// the init elsewhere.
pub(super) fn owner_at(path: &Path, mounts: &[MountEntry], program: Ids) -> Ids {
    let is_around = |mount: &MountEntry| mount.kind.is_own() && path != mount.target && path.starts_with(&mount.target);
    if mounts.iter().any(is_around) { program } else { ROOT }
}

/// Makes the place of one of the mounts beneath the root, and attaches the mount there. Returns the
/// links that last as long as they are kept.
pub(super) fn attach_mount(
    root: &OwnedFd,
    mount: &MountEntry,
    trees: &[OwnedFd],
    mounts: &[MountEntry],
    program: Ids,
) -> Result<Option<ProcLinks>, Failure> {
    let target = &mount.target;
    match (&mount.kind, trees) {
        (MountKind::File(content), _) => {
            let Content::Bytes(content) = content else { return Err(malformed(target)) };
            make_file_at(root, target, content, owner_at(target, mounts, program))?;
        }
        (MountKind::Link(to), _) => {
            let dir = make_dirs(root, target.parent().unwrap_or(Path::new("")), ROOT)?;
            symlinkat(to, &dir, target.file_name().unwrap_or_default()).step_at(Step::MakeSymlink, target)?;
        }
        (MountKind::Overlay { lowers, upper }, trees) => {
            let place = make_dirs(root, target, ROOT)?;
            attach_layers(&place, trees).step_at(Step::Mount, target)?;
            mount_overlay(root, target, lowers.len(), *upper, program).step_at(Step::Mount, target)?;
        }
        (MountKind::Proc(Some(machine)), [proc]) => {
            let place = make_dirs(root, target, ROOT)?;
            return attach_machine_proc(&place, proc, *machine).map(Some).step_at(Step::Mount, target);
        }
        (MountKind::Bind { access, .. }, [tree]) => {
            restrict_tree(tree, forbidden(*access)).step_at(Step::Mount, target)?;
            attach_tree(root, target, tree)?;
        }
        (_, [tree]) => attach_tree(root, target, tree)?,
        _ => return Err(malformed(target)),
    }
    Ok(None)
}

fn malformed(target: &Path) -> Failure {
    Failure::at(Step::Mount, target, nix::Error::EBADMSG)
}

fn attach_tree(root: &OwnedFd, target: &Path, tree: &OwnedFd) -> Result<(), Failure> {
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
    mounts: &[MountEntry],
    program: Ids,
) -> Result<(), Failure> {
    match (&mount.kind, trees) {
        (MountKind::Overlay { lowers, upper }, _) => {
            mount_overlay(root, &mount.target, lowers.len(), *upper, program).step_at(Step::Mount, &mount.target)
        }
        // A copy of what was there, with the generated files.
        (MountKind::Proc(_), [proc]) => attach_tree(root, &mount.target, proc),
        _ => attach_mount(root, mount, trees, mounts, program).map(drop),
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
