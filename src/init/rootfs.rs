//! The container's root file system: made once, its writable parts renewed by each reset.
//!
//! Invariant: nothing is created on the host. Everything happens in the init's own mount namespace,
//! on a tmpfs that covers a directory which exists on every host. What comes from the host is a
//! private copy of its mounts.

mod content;
mod file_systems;
mod machine;
mod machine_proc;
mod mounts;
mod overlay;
mod snapshot;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root, sethostname};

use crate::error::{Failure, ResultExt, Step};
use crate::sys::mount::{attach, make_read_only};
use crate::sys::process::set_domain_name;
use crate::wire::{Configure, Ids, MountEntry, MountKind, RawFileSystem, Symlink};

use super::files::{make_dirs, symlink};
use super::null::NullDevice;
use content::write_out;
use file_systems::new_root;
use machine_proc::ProcLinks;
use mounts::{attach_mount, detached_trees, hide, owner_at, renewed_trees, restore_mount};
use overlay::UPPER;
use snapshot::{NewState, Snapshot};

/// Where the new root is mounted before it becomes the root. Every host has this directory, because
/// it finds its own executable there.
const CONTAINER_ROOT: &str = "/proc";
const OLD_ROOT: &str = "old_root";

pub(super) struct Rootfs {
    program: Ids,
    root: OwnedFd,
    work_dir: PathBuf,
    mounts: Vec<MountEntry>,
    symlinks: Vec<Symlink>,
    _proc_links: Vec<ProcLinks>,
    /// Every tmpfs that is empty when it is new, in that state.
    new_states: Vec<NewState>,
}

/// What a reset took away. Its drop frees what programs left there, which takes a while for many
/// files.
pub(super) struct Discarded {
    _file_systems: Vec<OwnedFd>,
}

impl Rootfs {
    /// Makes the root file system and moves into it. `attached` are the trees of each mount
    /// that came with the configuration. The null device is outside of the root file system.
    pub(super) fn make(mut configure: Configure, attached: Vec<Vec<OwnedFd>>) -> Result<(Self, NullDevice), Failure> {
        write_out(&mut configure);
        let Configure { mounts, symlinks, masked, program, hostname, domainname, work_dir, .. } = configure;
        // Before the new root covers some of the host's paths.
        let trees = detached_trees(&mounts, attached, program)?;
        let root = cover_with_new_root()?;
        let null = NullDevice::make(&root).step_at(Step::Mount, "/dev/null")?;
        let mut proc_links = Vec::new();
        for (mount, trees) in mounts.iter().zip(&trees) {
            proc_links.extend(attach_mount(&root, mount, trees, &mounts, program)?);
        }
        masked.iter().try_for_each(|path| hide(&root, path))?;
        pivot_into_new_root()?;

        let mut rootfs =
            Self { program, root, work_dir, mounts, symlinks, _proc_links: proc_links, new_states: Vec::new() };
        rootfs.symlinks.iter().try_for_each(|link| rootfs.make_symlink(link))?;
        rootfs.enter_work_dir()?;
        make_read_only(c"/").step_at(Step::MakeRootReadOnly, "/")?;
        set_domain_name(&domainname).step_at(Step::SetDomainName, &domainname)?;
        sethostname(&hostname).step_at(Step::SetHostName, &hostname)?;
        rootfs.remember_new_states()?;
        Ok((rootfs, null))
    }

    /// Replaces every writable file system by a new one, except a tmpfs that no program has
    /// touched. The time that this takes does not depend on what programs left there. The time to
    /// drop the result does, up to the number of inodes that the mount allows.
    pub(super) fn reset(&mut self) -> Result<Discarded, Failure> {
        chdir("/").step_at(Step::ChangeDirectory, "/")?;
        let root = &self.root;
        self.new_states.retain_mut(|state| state.check_unchanged(root));
        let replaced = self.replaced_targets();
        // A mount below a replaced one goes with it and comes back with it.
        let affected: Vec<_> = self.mounts.iter().filter(|mount| is_at_or_below(&mount.target, &replaced)).collect();

        let discarded = open_own(&affected)?;
        let trees = renewed_trees(&affected, self.program)?;
        for mount in affected.iter().filter(|mount| !is_below(&mount.target, &replaced)) {
            unmount(mount)?;
        }
        for (mount, trees) in affected.iter().zip(&trees) {
            restore_mount(&self.root, mount, trees, &self.mounts, self.program)?;
        }
        let mut lost_links = self.symlinks.iter().filter(|link| is_below(&link.path, &replaced));
        lost_links.try_for_each(|link| self.make_symlink(link))?;
        let renewed: Vec<_> = affected.iter().map(|mount| mount.target.clone()).collect();
        self.new_states.retain(|state| !renewed.iter().any(|target| state.is_of(target)));
        self.enter_work_dir()?;
        self.remember_new_states()?;
        Ok(Discarded { _file_systems: discarded })
    }

    /// The state of every file system that belongs to the container.
    pub(super) fn fingerprints(&self) -> Result<Vec<RawFileSystem>, Failure> {
        let own = self.mounts.iter().filter(|mount| mount.kind.is_own());
        own.map(|mount| {
            let snapshot = Snapshot::take(&mount.target).step_at(Step::TakeFingerprint, &mount.target)?;
            Ok(snapshot.into_state())
        })
        .collect()
    }

    fn replaced_targets(&self) -> Vec<&Path> {
        let is_replaced = |mount: &&MountEntry| match mount.kind {
            MountKind::Tmpfs(_) => !self.is_new(&mount.target),
            MountKind::Overlay { .. } => true,
            _ => false,
        };
        self.mounts.iter().filter(is_replaced).map(|mount| mount.target.as_path()).collect()
    }

    fn is_new(&self, target: &Path) -> bool {
        self.new_states.iter().any(|new| new.is_of(target))
    }

    /// Remembers the state of every tmpfs that has been made since the last time. One of a single
    /// inode has no room for the inode that shows whether it was touched.
    fn remember_new_states(&mut self) -> Result<(), Failure> {
        let is_empty_when_new = |mount: &&MountEntry| match &mount.kind {
            MountKind::Tmpfs(tmpfs) => tmpfs.bytes > 0 && tmpfs.inodes > 1 && !self.has_inside(&mount.target),
            _ => false,
        };
        let empty = self.mounts.iter().filter(is_empty_when_new).map(|mount| &mount.target);
        let unknown = empty.filter(|target| !self.is_new(target));
        let states = unknown.map(|target| NewState::take(&self.root, target).step_at(Step::Open, target));
        let states = states.collect::<Result<Vec<_>, _>>()?;
        self.new_states.extend(states);
        Ok(())
    }

    /// Whether a mount or the working directory lies below this target.
    fn has_inside(&self, target: &Path) -> bool {
        let mut paths = self.mounts.iter().map(|mount| mount.target.as_path()).chain([self.work_dir.as_path()]);
        paths.any(|path| is_below(path, &[target]))
    }

    /// Makes a link of the configuration and the directories that it needs. They belong to the
    /// program within its own file systems, and to the init elsewhere.
    fn make_symlink(&self, link: &Symlink) -> Result<(), Failure> {
        let owner = owner_at(&link.path, &self.mounts, self.program);
        if let Some(dir) = link.path.parent() {
            make_dirs(&self.root, dir, owner)?;
        }
        symlink(link, owner)
    }

    /// Enters the directory that was made, never its path: a program may put a link on the way to
    /// that.
    fn enter_work_dir(&self) -> Result<(), Failure> {
        let dir = make_dirs(&self.root, &self.work_dir, self.program)?;
        fchdir(dir).step_at(Step::ChangeDirectory, &self.work_dir)
    }
}

fn is_at_or_below(path: &Path, dirs: &[&Path]) -> bool {
    dirs.iter().any(|dir| path.starts_with(dir))
}

fn is_below(path: &Path, dirs: &[&Path]) -> bool {
    dirs.iter().any(|dir| path != *dir && path.starts_with(dir))
}

/// Makes all mounts private, mounts the new root, and enters it.
fn cover_with_new_root() -> Result<OwnedFd, Failure> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).step_at(Step::MakeMountsPrivate, "/")?;
    let place = open_place(Path::new(CONTAINER_ROOT)).step_at(Step::MountRoot, CONTAINER_ROOT)?;
    let root = new_root().step_at(Step::MountRoot, CONTAINER_ROOT)?;
    attach(root, place).step_at(Step::MountRoot, CONTAINER_ROOT)?;
    chdir(CONTAINER_ROOT).step_at(Step::MountRoot, CONTAINER_ROOT)?;
    open_place(Path::new(".")).step_at(Step::Open, CONTAINER_ROOT)
}

/// Makes the working directory the root, and detaches everything of the host's.
fn pivot_into_new_root() -> Result<(), Failure> {
    nix::unistd::mkdir(OLD_ROOT, Mode::S_IRWXU).step_at(Step::MakeDirectory, OLD_ROOT)?;
    pivot_root(".", OLD_ROOT).step_at(Step::PivotRoot, CONTAINER_ROOT)?;
    chdir("/").step_at(Step::ChangeDirectory, "/")?;
    umount2(OLD_ROOT, MntFlags::MNT_DETACH).step_at(Step::DetachOldRoot, OLD_ROOT)?;
    std::fs::remove_dir(OLD_ROOT).step_at(Step::RemoveOldRoot, OLD_ROOT)
}

/// Opens the container's own file systems among these mounts, so that they outlive their
/// unmounting.
fn open_own(mounts: &[&MountEntry]) -> Result<Vec<OwnedFd>, Failure> {
    let own = mounts.iter().filter(|mount| mount.kind.is_own());
    own.map(|mount| open_place(&mount.target).step_at(Step::Mount, &mount.target)).collect()
}

/// Unmounts a mount and everything below it. The lower layers of an overlay stay.
fn unmount(mount: &MountEntry) -> Result<(), Failure> {
    detach(&mount.target)?;
    if let MountKind::Overlay { .. } = mount.kind {
        detach(&mount.target.join(UPPER))?;
    }
    Ok(())
}

fn detach(place: &Path) -> Result<(), Failure> {
    umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).step_at(Step::Unmount, place)
}

fn open_place(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}
