//! The container's root file system: made once, its writable parts made anew by each reset.
//!
//! Invariant: nothing is made on the host. Everything happens in the init's own mount namespace, on a tmpfs that covers
//! a directory which is there on every host; what comes from the host is a private copy of its mounts.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags as NixAtFlags, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, mkdirat};
use nix::unistd::{chdir, fchdir, fchownat, pivot_root, sethostname};
use rustix::fs::{AtFlags, CWD, StatxFlags, llistxattr, statfs, statx};

use crate::error::{Failure, Step};
use crate::fingerprint::FileSystem;
use crate::mount::{Access, Kind, Mount, Tmpfs};
use crate::sys::mount::{attach, copy_mount, copy_tree, forbid, make_read_only, new_file_system, restrict_tree};
use crate::sys::process::set_domain_name;
use crate::wire::{Attach, Configure, Ids, Symlink};

use super::files::{ROOT, make_dirs, resolve, symlink};

/// Where the new root is mounted before it becomes the root: the one directory that a host always has, since it is
/// where it finds its own executable.
const CONTAINER_ROOT: &str = "/proc";
const OLD_ROOT: &str = "old_root";
/// Where, among an overlay's layers, the tmpfs with its changes is.
const UPPER: &str = "upper";

pub(super) struct Rootfs {
    program: Ids,
    root: OwnedFd,
    work_dir: PathBuf,
    mounts: Vec<Mount>,
    symlinks: Vec<Symlink>,
    /// How each tmpfs that is empty when new looked then.
    fresh: Vec<Fresh>,
}

/// What a reset took away. Its drop frees what a program had left, which takes a while for many files.
pub(super) struct Discarded {
    _trees: Vec<OwnedFd>,
}

impl Rootfs {
    /// Makes the root file system and moves into it. The fds are the mount trees that the host attached, in order.
    pub(super) fn make(configure: Configure, trees: Vec<OwnedFd>) -> Result<Self, Failure> {
        let Configure { mounts, symlinks, masked, program, hostname, domainname, work_dir, .. } = configure;
        // All sources first: the new root covers some of the host's paths.
        let mut trees = trees.into_iter();
        let detached = mounts.iter().map(|Attach { mount, trees: attached }| {
            let found = |source: &Path, tree: std::io::Result<OwnedFd>| {
                tree.map_err(|error| Failure::at(Step::OpenBindSource, source, error))
            };
            match &mount.kind {
                Kind::Bind { .. } | Kind::Overlay { .. } if *attached > 0 => {
                    Ok(trees.by_ref().take(*attached).collect())
                }
                Kind::Bind { source, .. } => Ok(vec![found(source, copy_tree(source))?]),
                Kind::Overlay { lowers, .. } => lowers.iter().map(|source| found(source, copy_mount(source))).collect(),
                kind => match new(kind, program) {
                    Ok(tree) => Ok(vec![tree]),
                    Err(error) => Err(Failure::at(Step::Mount, &mount.target, error)),
                },
            }
        });
        let detached: Vec<Vec<_>> = detached.collect::<Result<_, _>>()?;

        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|error| Failure::at(Step::MakeMountsPrivate, "/", error))?;
        mount_root().map_err(|error| Failure::at(Step::MountRoot, CONTAINER_ROOT, error))?;
        let root = open_place(Path::new(".")).map_err(|error| Failure::at(Step::Open, CONTAINER_ROOT, error))?;
        for (Attach { mount, .. }, trees) in mounts.iter().zip(&detached) {
            place(&root, mount, trees, program)?;
        }

        masked.iter().try_for_each(|path| mask(&root, path))?;

        let step = |step, path| move |error| Failure::at(step, path, error);
        nix::unistd::mkdir(OLD_ROOT, Mode::S_IRWXU).map_err(step(Step::MakeDirectory, OLD_ROOT))?;
        pivot_root(".", OLD_ROOT).map_err(step(Step::PivotRoot, CONTAINER_ROOT))?;
        chdir("/").map_err(step(Step::ChangeDirectory, "/"))?;
        umount2(OLD_ROOT, MntFlags::MNT_DETACH).map_err(step(Step::DetachOldRoot, OLD_ROOT))?;
        std::fs::remove_dir(OLD_ROOT).map_err(|error| Failure::at(Step::RemoveOldRoot, OLD_ROOT, error))?;

        let mounts = mounts.into_iter().map(|attach| attach.mount).collect();
        let mut rootfs = Self { program, root, work_dir, mounts, symlinks, fresh: Vec::new() };
        rootfs.symlinks.iter().try_for_each(|link| rootfs.make_link(link))?;
        rootfs.enter_work_dir()?;
        make_read_only(c"/").map_err(|error| Failure::at(Step::MakeRootReadOnly, "/", error))?;
        set_domain_name(&domainname).map_err(|error| Failure::at(Step::SetDomainName, &domainname, error))?;
        sethostname(&hostname).map_err(|error| Failure::at(Step::SetHostName, &hostname, error))?;
        rootfs.remember_fresh()?;
        Ok(rootfs)
    }

    /// Puts a new tmpfs in the place of each writable one, and leaves alone those that nothing has touched. Its time does
    /// not depend on what a program left there; that of dropping what it gives back does, up to the inodes allowed.
    pub(super) fn reset(&mut self) -> Result<Discarded, Failure> {
        chdir("/").map_err(|error| Failure::at(Step::ChangeDirectory, "/", error))?;
        let is_replaced = |mount: &&Mount| match mount.kind {
            Kind::Tmpfs(_) => !self.is_untouched(&mount.target),
            Kind::Overlay { .. } => true,
            _ => false,
        };
        let replaced: Vec<_> = self.mounts.iter().filter(is_replaced).map(|mount| &mount.target).collect();
        let is_within = |mount: &Mount| replaced.iter().any(|target| is_strictly_within(&mount.target, target));
        // What is mounted within a tmpfs goes with it, and comes back with it.
        let is_affected = |mount: &&Mount| replaced.contains(&&mount.target) || is_within(mount);
        let (mut again, mut discarded) = (Vec::new(), Vec::new());
        for mount in self.mounts.iter().filter(is_affected) {
            let failure = |error| Failure::at(Step::Mount, &mount.target, error);
            if is_own(mount) {
                discarded.push(open_place(&mount.target).map_err(|error| failure(error.into()))?);
            }
            let trees = match &mount.kind {
                Kind::Overlay { .. } => Vec::new(),
                Kind::Tmpfs(_) => vec![new(&mount.kind, self.program).map_err(failure)?],
                _ => vec![copy_tree(&mount.target).map_err(failure)?],
            };
            again.push((mount, trees));
        }
        for (mount, _) in again.iter().filter(|(mount, _)| !is_within(mount)) {
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            let unmount =
                |place: &Path| umount2(place, flags).map_err(|error| Failure::at(Step::Unmount, place, error));
            unmount(&mount.target)?;
            if matches!(mount.kind, Kind::Overlay { .. }) {
                unmount(&mount.target.join(UPPER))?;
            }
        }
        for (mount, trees) in &again {
            match &mount.kind {
                // What it is made of lies where it was.
                Kind::Overlay { lowers, upper } => cover(&self.root, &mount.target, lowers.len(), *upper, self.program)
                    .map_err(|error| Failure::at(Step::Mount, &mount.target, error))?,
                _ => place(&self.root, mount, trees, self.program)?,
            }
        }
        let is_gone = |link: &&Symlink| replaced.iter().any(|target| is_strictly_within(&link.path, target));
        self.symlinks.iter().filter(is_gone).try_for_each(|link| self.make_link(link))?;
        self.enter_work_dir()?;
        self.remember_fresh()?;
        Ok(Discarded { _trees: discarded })
    }

    fn is_untouched(&self, target: &Path) -> bool {
        let now = Fresh::look(target).ok();
        self.fresh.iter().any(|fresh| fresh.it.path == *target && Some(fresh) == now.as_ref())
    }

    fn remember_fresh(&mut self) -> Result<(), Failure> {
        let has_inside = |target: &Path| {
            let inside = self.mounts.iter().map(Mount::target).chain([self.work_dir.as_path()]);
            inside.into_iter().any(|path| is_strictly_within(path, target))
        };
        let is_bounded = |tmpfs: &Tmpfs| tmpfs.bytes > 0 && tmpfs.inodes > 0;
        let empty = self.mounts.iter().filter_map(|mount| match &mount.kind {
            Kind::Tmpfs(tmpfs) if is_bounded(tmpfs) && !has_inside(&mount.target) => Some(&mount.target),
            _ => None,
        });
        let remember = |target: &PathBuf| Fresh::look(target).map_err(|error| Failure::at(Step::Open, target, error));
        self.fresh = empty.map(remember).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// How every file system that is the container's own looks.
    pub(super) fn fingerprints(&self) -> Result<Vec<FileSystem>, Failure> {
        let look = |mount: &Mount| match Fresh::look(&mount.target) {
            Ok(fresh) => Ok(fresh.it),
            Err(error) => Err(Failure::at(Step::TakeFingerprint, &mount.target, error)),
        };
        self.mounts.iter().filter(|mount| is_own(mount)).map(look).collect()
    }

    /// Makes a link that came with the configuration, with the directories it needs: the program's where it is the program's.
    fn make_link(&self, link: &Symlink) -> Result<(), Failure> {
        let is_own = |mount: &Mount| is_own(mount) && is_strictly_within(&link.path, &mount.target);
        let owner = if self.mounts.iter().any(is_own) { self.program } else { ROOT };
        if let Some(dir) = link.path.parent() {
            make_dirs(&self.root, dir, owner)?;
        }
        symlink(link, owner)
    }

    /// By the directory that was found, never by its path again: that may lie where others can put a link in between.
    fn enter_work_dir(&self) -> Result<(), Failure> {
        let dir = make_dirs(&self.root, &self.work_dir, self.program)?;
        fchdir(dir).map_err(|error| Failure::at(Step::ChangeDirectory, &self.work_dir, error))
    }
}

/// All that can be changed about an empty tmpfs: its root directory, and how much it holds.
#[derive(PartialEq)]
struct Fresh {
    it: FileSystem,
    /// A change of whatever else there is moves the first: where the clock is coarse (before Linux 6.13), unless it
    /// comes within the tick of the mount.
    changed: [(i64, u32); 2],
}

impl Fresh {
    fn look(path: &Path) -> std::io::Result<Self> {
        let root = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        let fs = statfs(path)?;
        let names: &mut [u8] = &mut [];
        let it = FileSystem {
            path: path.to_owned(),
            mode: root.stx_mode.into(),
            owner: (root.stx_uid, root.stx_gid),
            links: root.stx_nlink,
            flags: root.stx_attributes.bits(),
            attributes: llistxattr(path, names)? as u64,
            bytes: (fs.f_blocks - fs.f_bfree).saturating_mul(fs.f_bsize as u64),
            inodes: fs.f_files - fs.f_ffree,
        };
        Ok(Self { it, changed: [root.stx_ctime, root.stx_mtime].map(|time| (time.tv_sec, time.tv_nsec)) })
    }
}

/// Whether what is mounted here is the container's own, and new after each reset.
fn is_own(mount: &Mount) -> bool {
    matches!(mount.kind, Kind::Tmpfs(_) | Kind::Overlay { .. })
}

fn is_strictly_within(path: &Path, dir: &Path) -> bool {
    path != dir && path.starts_with(dir)
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
            new_file_system("tmpfs", &options(own), forbid::DEVICES | forbid::ACCESS_TIMES)
        }
        Kind::Proc => {
            let little = [("subset", "pid"), ("hidepid", "invisible")];
            new_file_system("proc", &options(little), forbid::WRITES | forbid::DEVICES | forbid::EXEC)
        }
        Kind::FileSystem { name, options } => new_file_system(name, options, forbid::DEVICES),
        Kind::Bind { source, .. } => copy_tree(source),
        Kind::Overlay { .. } => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

fn options<V: Into<String>, const N: usize>(options: [(&str, V); N]) -> Vec<(String, String)> {
    options.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// Makes the place of a mount beneath the root, and shows the mount there.
fn place(root: &OwnedFd, mount: &Mount, trees: &[OwnedFd], program: Ids) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::at(Step::Mount, &mount.target, error);
    if let Kind::Overlay { lowers, upper } = &mount.kind {
        let target = make_dirs(root, &mount.target, ROOT)?;
        lay(&target, trees).map_err(failure)?;
        return cover(root, &mount.target, lowers.len(), *upper, program).map_err(failure);
    }
    let [tree] = trees else { return Err(failure(nix::Error::EBADMSG.into())) };
    if let Kind::Bind { access, .. } = mount.kind {
        let forbidden = match access {
            Access::ReadOnly => forbid::WRITES | forbid::DEVICES,
            Access::Writable => forbid::DEVICES,
            Access::Device => forbid::WRITES | forbid::EXEC,
        };
        restrict_tree(tree, forbidden).map_err(failure)?;
    }
    let is_dir = |fd| Ok::<_, nix::Error>(fstat(fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits());
    let target = if is_dir(tree).map_err(|error| failure(error.into()))? {
        make_dirs(root, &mount.target, ROOT)?
    } else {
        let parent = make_dirs(root, mount.target.parent().unwrap_or(Path::new("")), ROOT)?;
        make_file(&parent, mount.target.file_name().unwrap_or_default()).map_err(|error| failure(error.into()))?
    };
    attach(tree, target).map_err(failure)
}

/// Puts an overlay's layers at its target, each read-only on a directory of a small tmpfs, where the overlay will cover them.
fn lay(target: &OwnedFd, lowers: &[OwnedFd]) -> std::io::Result<()> {
    let layers = new_file_system("tmpfs", &options([("size", "16k"), ("mode", "0700")]), forbid::DEVICES)?;
    mkdirat(&layers, UPPER, Mode::S_IRWXU)?;
    // Before the layers: older kernels mount nothing on what is nowhere itself.
    attach(&layers, target)?;
    for (number, lower) in lowers.iter().enumerate() {
        let name = number.to_string();
        mkdirat(&layers, &*name, Mode::S_IRWXU)?;
        restrict_tree(lower, forbid::WRITES | forbid::DEVICES)?;
        attach(lower, resolve(&layers, Path::new(&name), OFlag::O_PATH, 0)?)?;
    }
    Ok(())
}

/// Covers the layers at a target with an overlay of them, whose upper one is new.
fn cover(root: &OwnedFd, target: &Path, lowers: usize, upper: Tmpfs, program: Ids) -> std::io::Result<()> {
    let layers = resolve(root, target.strip_prefix("/").unwrap_or(target), OFlag::O_PATH, 0)?;
    let tmpfs = new(&Kind::Tmpfs(upper.mode(0o700)), ROOT)?;
    for dir in ["changes", "work"] {
        mkdirat(&tmpfs, dir, Mode::S_IRWXU)?;
    }
    let (uid, gid) = (Some(program.uid.into()), Some(program.gid.into()));
    fchownat(&tmpfs, "changes", uid, gid, NixAtFlags::AT_SYMLINK_NOFOLLOW)?;
    fchmodat(&tmpfs, "changes", Mode::from_bits_truncate(upper.mode), FchmodatFlags::FollowSymlink)?;
    attach(tmpfs, resolve(&layers, Path::new(UPPER), OFlag::O_PATH, 0)?)?;
    // The kernel wants its layers by path.
    fchdir(&layers)?;
    let lowers: Vec<_> = (0..lowers).map(|number| number.to_string()).collect();
    let layout = options([
        ("lowerdir", lowers.join(":")),
        ("upperdir", format!("{UPPER}/changes")),
        ("workdir", format!("{UPPER}/work")),
        ("userxattr", String::new()),
    ]);
    let overlay = new_file_system("overlay", &layout, forbid::DEVICES | forbid::ACCESS_TIMES)?;
    attach(overlay, layers)?;
    Ok(fchdir(root)?)
}

/// Hides what is at a path beneath the root, if anything is: a file under the host's /dev/null, a directory under an empty
/// one.
fn mask(root: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let mask = || -> std::io::Result<()> {
        let place = match resolve(root, relative, OFlag::O_PATH, 0) {
            // Nothing to hide; a link leads to what has a path of its own.
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => return Ok(()),
            place => place?,
        };
        let cover = if fstat(&place)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
            let empty = options([("size", "4k"), ("nr_inodes", "1"), ("mode", "0555")]);
            new_file_system("tmpfs", &empty, forbid::WRITES | forbid::DEVICES)?
        } else {
            let null = copy_tree(Path::new("/dev/null"))?;
            restrict_tree(&null, forbid::WRITES | forbid::EXEC)?;
            null
        };
        attach(cover, place)
    };
    mask().map_err(|error| Failure::at(Step::Mask, path, error))
}

fn make_file(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    match resolve(dir, Path::new(name), OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY, 0o644) {
        Ok(_) | Err(nix::Error::EEXIST) => resolve(dir, Path::new(name), OFlag::O_PATH, 0),
        Err(error) => Err(error),
    }
}

fn open_place(path: &Path) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}
