//! The container's root file system: made once, its writable parts made anew by each reset.
//!
//! Invariant: nothing is made on the host. Everything happens in the init's own mount namespace, on a tmpfs that covers
//! a directory which is there on every host; what comes from the host is a private copy of its mounts.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{chdir, pivot_root, sethostname};

use crate::error::{Failure, Step};
use crate::mount::{Access, Kind, Mount, Tmpfs};
use crate::sys::mount::{attach, copy_tree, forbid, make_read_only, new_file_system, restrict_tree};
use crate::sys::process::set_domain_name;
use crate::wire::{Attach, Configure, Ids};

use super::files::{make_dirs, resolve};

/// Where the new root is mounted before it becomes the root: the one directory that a host always has, since it is
/// where it finds its own executable.
const CONTAINER_ROOT: &str = "/proc";
const OLD_ROOT: &str = "old_root";

pub(super) struct Rootfs {
    program: Ids,
    work_dir: PathBuf,
    mounts: Vec<Mount>,
}

impl Rootfs {
    /// Makes the root file system and moves into it. The fds are the mount trees that the host attached, in order.
    pub(super) fn make(configure: Configure, trees: Vec<OwnedFd>) -> Result<Self, Failure> {
        let Configure { mounts, program, host_name, domain_name, work_dir } = configure;
        // All sources first: the new root covers some of the host's paths.
        let mut trees = trees.into_iter();
        let mut next_tree = || trees.next().ok_or(nix::Error::EBADMSG);
        let detached = mounts.iter().map(|Attach { mount, tree }| match &mount.kind {
            Kind::Bind { .. } if *tree => next_tree().map_err(|error| Failure::at(Step::Mount, &mount.target, error)),
            Kind::Bind { source, .. } => {
                copy_tree(source).map_err(|error| Failure::at(Step::OpenBindSource, source, error))
            }
            kind => new(kind, program).map_err(|error| Failure::at(Step::Mount, &mount.target, error)),
        });
        let detached: Vec<_> = detached.collect::<Result<_, _>>()?;

        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|error| Failure::at(Step::MakeMountsPrivate, "/", error))?;
        mount_root().map_err(|error| Failure::at(Step::MountRoot, CONTAINER_ROOT, error))?;
        for (Attach { mount, .. }, tree) in mounts.iter().zip(&detached) {
            place(mount, tree)?;
        }

        let step = |step, path| move |error| Failure::at(step, path, error);
        nix::unistd::mkdir(OLD_ROOT, Mode::S_IRWXU).map_err(step(Step::MakeDirectory, OLD_ROOT))?;
        pivot_root(".", OLD_ROOT).map_err(step(Step::PivotRoot, CONTAINER_ROOT))?;
        chdir("/").map_err(step(Step::ChangeDirectory, "/"))?;
        umount2(OLD_ROOT, MntFlags::MNT_DETACH).map_err(step(Step::DetachOldRoot, OLD_ROOT))?;
        std::fs::remove_dir(OLD_ROOT).map_err(|error| Failure::at(Step::RemoveOldRoot, OLD_ROOT, error))?;

        let rootfs = Self { program, work_dir, mounts: mounts.into_iter().map(|attach| attach.mount).collect() };
        rootfs.make_work_dir()?;
        make_read_only(c"/").map_err(|error| Failure::at(Step::MakeRootReadOnly, "/", error))?;
        set_domain_name(&domain_name).map_err(|error| Failure::at(Step::SetDomainName, &domain_name, error))?;
        sethostname(&host_name).map_err(|error| Failure::at(Step::SetHostName, &host_name, error))?;
        rootfs.enter_work_dir()?;
        Ok(rootfs)
    }

    /// Puts a new tmpfs in the place of each writable one. Its time does not depend on what a program left there, beyond
    /// the inodes that it was allowed.
    pub(super) fn reset(&self) -> Result<(), Failure> {
        chdir("/").map_err(|error| Failure::at(Step::ChangeDirectory, "/", error))?;
        let is_tmpfs = |mount: &Mount| matches!(mount.kind, Kind::Tmpfs(_));
        let is_within = |mount: &Mount| {
            self.mounts.iter().any(|it| is_tmpfs(it) && it.target != mount.target && mount.target.starts_with(&it.target))
        };
        let mut again = Vec::new();
        for mount in self.mounts.iter().filter(|mount| is_tmpfs(mount) || is_within(mount)) {
            let detached = if is_tmpfs(mount) { new(&mount.kind, self.program) } else { copy_tree(&mount.target) };
            again.push((mount, detached.map_err(|error| Failure::at(Step::Mount, &mount.target, error))?));
        }
        for (mount, _) in again.iter().filter(|(mount, _)| !is_within(mount)) {
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            umount2(&mount.target, flags).map_err(|error| Failure::at(Step::Unmount, &mount.target, error))?;
        }
        for (mount, tree) in &again {
            place(mount, tree)?;
        }
        self.make_work_dir()?;
        self.enter_work_dir()
    }

    fn make_work_dir(&self) -> Result<(), Failure> {
        let root = open_place(Path::new("/")).map_err(|error| Failure::at(Step::Open, "/", error))?;
        make_dirs(&root, &self.work_dir, self.program).map(drop)
    }

    fn enter_work_dir(&self) -> Result<(), Failure> {
        chdir(&self.work_dir).map_err(|error| Failure::at(Step::ChangeDirectory, &self.work_dir, error))
    }
}

fn mount_root() -> std::io::Result<()> {
    let root = new_file_system("tmpfs", &options([("mode", "0755"), ("size", "1m")]), forbid::DEVICES)?;
    attach(&root, open_place(Path::new(CONTAINER_ROOT))?)?;
    chdir(CONTAINER_ROOT)?;
    Ok(())
}

/// A new file system, not yet anywhere.
fn new(kind: &Kind, program: Ids) -> std::io::Result<OwnedFd> {
    match kind {
        Kind::Tmpfs(Tmpfs { bytes, inodes, mode }) => {
            let own = [
                ("size", bytes.to_string()),
                ("nr_inodes", inodes.to_string()),
                ("mode", format!("{mode:o}")),
                ("uid", program.uid.to_string()),
                ("gid", program.gid.to_string()),
            ];
            new_file_system("tmpfs", &options(own), forbid::DEVICES)
        }
        Kind::Proc => {
            let little = [("subset", "pid"), ("hidepid", "invisible")];
            new_file_system("proc", &options(little), forbid::WRITES | forbid::DEVICES | forbid::EXEC)
        }
        Kind::FileSystem { name, options } => new_file_system(name, options, forbid::DEVICES),
        Kind::Bind { source, .. } => copy_tree(source),
    }
}

fn options<V: Into<String>, const N: usize>(options: [(&str, V); N]) -> Vec<(String, String)> {
    options.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// Makes the place of a mount below the working directory, which is the new root, and shows the mount there.
fn place(mount: &Mount, tree: &OwnedFd) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::at(Step::Mount, &mount.target, error);
    if let Kind::Bind { access, .. } = mount.kind {
        let forbidden = match access {
            Access::ReadOnly => forbid::WRITES | forbid::DEVICES,
            Access::Writable => forbid::DEVICES,
            Access::Device => forbid::WRITES | forbid::EXEC,
        };
        restrict_tree(tree, forbidden).map_err(failure)?;
    }
    let is_dir = |fd| Ok::<_, nix::Error>(fstat(fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits());
    let root = open_place(Path::new(".")).map_err(|error| failure(error.into()))?;
    let target = if is_dir(tree).map_err(|error| failure(error.into()))? {
        make_dirs(&root, &mount.target, ROOT)?
    } else {
        let parent = make_dirs(&root, mount.target.parent().unwrap_or(Path::new("")), ROOT)?;
        make_file(&parent, mount.target.file_name().unwrap_or_default()).map_err(|error| failure(error.into()))?
    };
    attach(tree, target).map_err(failure)
}

const ROOT: Ids = Ids { uid: 0, gid: 0 };

fn make_file(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    match resolve(dir, Path::new(name), OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY, 0o644) {
        Ok(_) | Err(nix::Error::EEXIST) => resolve(dir, Path::new(name), OFlag::O_PATH, 0),
        Err(error) => Err(error),
    }
}

fn open_place(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}
