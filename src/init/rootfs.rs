//! The container's root file system: made once, its writable parts renewed by each reset.
//!
//! Invariant: nothing is created on the host. Everything happens in the init's own mount namespace,
//! on a tmpfs that covers a directory which exists on every host. What comes from the host is a
//! private copy of its mounts.

mod base;
mod content;
mod file_systems;
mod machine;
mod machine_proc;
mod mounts;
mod overlay;
mod snapshot;
mod tree;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root, sethostname};

use crate::error::{Failure, ResultExt, Step};
use crate::sys::mount::{attach, make_read_only};
use crate::sys::process::set_domain_name;
use crate::wire::{Configure, Content, Ids, MountEntry, MountKind, RawFileSystem, Symlink};

use super::files::{ROOT, delete, make_dirs, symlink};
use super::null::NullDevice;
use base::Base;
use content::{make_file_at, make_link_at, write_out};
use file_systems::new_root;
use mounts::detached_trees;
use tree::MountTree;

pub(super) use tree::Discarded;

/// Where the base is mounted before it becomes the root. Every host has this directory, because it
/// finds its own executable there.
const BASE: &str = "/proc";
const OLD_ROOT: &str = "old_root";

pub(super) struct Rootfs {
    program: Ids,
    tree: MountTree,
    work_dir: PathBuf,
    symlinks: Vec<Symlink>,
    /// The files of the configuration, with their contents.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Rootfs {
    /// Makes the root file system and moves into it. `attached` are the trees of each mount
    /// that came with the configuration. The null device is outside of the root file system.
    pub(super) fn make(mut configure: Configure, attached: Vec<Vec<OwnedFd>>) -> Result<(Self, NullDevice), Failure> {
        write_out(&mut configure);
        let Configure { mounts, symlinks, masked, program, hostname, domainname, work_dir, .. } = configure;
        // Before the base covers some of the host's paths.
        let trees = detached_trees(&mounts, attached)?;
        let base = cover_with_base()?;
        let null = NullDevice::make(&base).step_at(Step::Mount, "/dev/null")?;
        let base = Base::make(base).step_at(Step::MountRoot, BASE)?;

        let mut mounts = mounts.iter().zip(&trees).map(|(mount, trees)| (mount, trees.as_slice())).peekable();
        let mut tree = MountTree::new(base, program, mounts.next_if(|(mount, _)| is_root(mount)))?;
        let mut files = Vec::new();
        for (mount, trees) in mounts {
            match &mount.kind {
                MountKind::File(Content::Bytes(content)) => {
                    make_file(&tree, &mount.target, content, program)?;
                    files.push((mount.target.clone(), content.clone()));
                }
                MountKind::Link(to) => make_link_at(tree.root(), &mount.target, to)?,
                _ => tree.attach(mount, trees)?,
            }
        }
        masked.iter().try_for_each(|path| tree.hide(path))?;
        pivot_into_base(tree.base())?;
        tree.enter_root()?;

        let mut rootfs = Self { program, tree, work_dir, symlinks, files };
        rootfs.symlinks.iter().try_for_each(|link| rootfs.make_symlink(link))?;
        rootfs.tree.forget_fixed();
        rootfs.enter_work_dir()?;
        if rootfs.tree.is_own(Path::new("/")) {
            rootfs.tree.freeze_root()?;
            rootfs.enter_work_dir()?;
        } else {
            make_read_only(rootfs.tree.root()).step_at(Step::MakeRootReadOnly, "/")?;
        }
        set_domain_name(&domainname).step_at(Step::SetDomainName, &domainname)?;
        sethostname(&hostname).step_at(Step::SetHostName, &hostname)?;
        Ok((rootfs, null))
    }

    /// Replaces every own file system that has changed by a new one, in the state in which it was
    /// made or frozen. The time that this takes does not depend on what programs left there. The
    /// time to drop the result does, up to the number of inodes that the mount allows.
    pub(super) fn reset(&mut self) -> Result<Discarded, Failure> {
        chdir("/").step_at(Step::ChangeDirectory, "/")?;
        let (discarded, replaced) = self.tree.reset()?;
        let mut lost_links = self.symlinks.iter().filter(|link| self.tree.is_lost(&link.path, &replaced));
        lost_links.try_for_each(|link| self.make_symlink(link))?;
        let mut lost_files = self.files.iter().filter(|(path, _)| self.tree.is_lost(path, &replaced));
        lost_files.try_for_each(|(path, content)| make_file(&self.tree, path, content, self.program))?;
        self.enter_work_dir()?;
        Ok(discarded)
    }

    /// Makes the present state of every own file system the one that later resets restore. The time
    /// that this takes does not depend on what is there.
    pub(super) fn freeze(&mut self) -> Result<Discarded, Failure> {
        chdir("/").step_at(Step::ChangeDirectory, "/")?;
        let discarded = self.tree.freeze()?;
        self.enter_work_dir()?;
        Ok(discarded)
    }

    /// The state of every file system that belongs to the container.
    pub(super) fn fingerprints(&self) -> Result<Vec<RawFileSystem>, Failure> {
        self.tree.fingerprints()
    }

    /// Makes a link of the configuration and the directories that it needs. They belong to the
    /// program within its own file systems, and to the init elsewhere.
    fn make_symlink(&self, link: &Symlink) -> Result<(), Failure> {
        let owner = owner_at(&self.tree, &link.path, self.program);
        if let Some(dir) = link.path.parent() {
            make_dirs(self.tree.root(), dir, owner)?;
        }
        match symlink(link, owner) {
            // The tree of a root has files of its own. The link is made in the layer of the
            // changes.
            Err(Failure { errno: libc::EEXIST, .. }) if self.tree.is_in_root(&link.path) => {
                delete(&link.path)?;
                symlink(link, owner)
            }
            made => made,
        }
    }

    /// Enters the directory that was made, never its path: a program may put a link on the way to
    /// that.
    fn enter_work_dir(&self) -> Result<(), Failure> {
        let dir = make_dirs(self.tree.root(), &self.work_dir, self.program)?;
        fchdir(dir).step_at(Step::ChangeDirectory, &self.work_dir)
    }
}

/// Makes a file of the configuration.
fn make_file(tree: &MountTree, path: &Path, content: &[u8], program: Ids) -> Result<(), Failure> {
    make_file_at(tree.root(), path, content, owner_at(tree, path, program))
}

/// Who owns what the init makes at a path: the program within the container's own file systems, and
/// the init elsewhere.
fn owner_at(tree: &MountTree, path: &Path, program: Ids) -> Ids {
    if tree.is_own(path) { program } else { ROOT }
}

/// Whether a mount is what programs see as "/".
pub(super) fn is_root(mount: &MountEntry) -> bool {
    matches!(mount.kind, MountKind::Overlay { .. }) && mount.target == Path::new("/")
}

/// Makes all mounts private, mounts the base, and enters it.
fn cover_with_base() -> Result<OwnedFd, Failure> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).step_at(Step::MakeMountsPrivate, "/")?;
    let place = open_place(Path::new(BASE)).step_at(Step::MountRoot, BASE)?;
    let root = new_root().step_at(Step::MountRoot, BASE)?;
    attach(root, place).step_at(Step::MountRoot, BASE)?;
    chdir(BASE).step_at(Step::MountRoot, BASE)?;
    open_place(Path::new(".")).step_at(Step::Open, BASE)
}

/// Makes the base the root, and detaches everything of the host's.
fn pivot_into_base(base: &OwnedFd) -> Result<(), Failure> {
    fchdir(base).step_at(Step::ChangeDirectory, BASE)?;
    nix::unistd::mkdir(OLD_ROOT, Mode::S_IRWXU).step_at(Step::MakeDirectory, OLD_ROOT)?;
    pivot_root(".", OLD_ROOT).step_at(Step::PivotRoot, BASE)?;
    chdir("/").step_at(Step::ChangeDirectory, "/")?;
    umount2(OLD_ROOT, MntFlags::MNT_DETACH).step_at(Step::DetachOldRoot, OLD_ROOT)?;
    std::fs::remove_dir(OLD_ROOT).step_at(Step::RemoveOldRoot, OLD_ROOT)
}

fn open_place(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}
