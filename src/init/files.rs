//! Files of a container, opened and deleted for the host.
//!
//! Invariant: programs control these paths. Each path is resolved beneath the container's root,
//! without following links or magic links and without blocking, and leads to a regular file or to
//! an error.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};

use crate::error::{Failure, ResultExt, Step};
use crate::wire::{Ids, OpenRequest, Reply, Symlink};

/// Opens each file. Returns one result for each file, and the descriptors of the opened files.
pub(super) fn open_all(files: &[OpenRequest], program: Ids) -> (Reply, Vec<Arc<OwnedFd>>) {
    let mut fds = Vec::new();
    let results = files.iter().map(|file| match open(file, program) {
        Ok(fd) => {
            fds.push(fd.into());
            None
        }
        // The host knows the paths, and 4096 of them would not fit into one message.
        Err(failure) => Some(Failure { path: None, ..failure }),
    });
    (Reply::Opened(results.collect()), fds)
}

/// The content of a regular file, of at most 64 KiB.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    const LIMIT: u64 = 64 << 10;
    // The owner does not matter: nothing is created.
    let fd = open(&OpenRequest::read(path), ROOT).map_err(|failure| io::Error::from_raw_os_error(failure.errno))?;
    let mut content = Vec::new();
    File::from(fd).take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT { Err(Errno::EFBIG.into()) } else { Ok(content) }
}

/// Makes each link. Returns one result for each.
pub(super) fn link_all(links: &[Symlink], program: Ids) -> Reply {
    // Without the paths, as in `open_all`.
    let make = |link: &Symlink| symlink(link, program).err().map(|failure| Failure { path: None, ..failure });
    Reply::Linked(links.iter().map(make).collect())
}

/// Makes a symbolic link that belongs to `owner`. Its content is not checked.
pub(crate) fn symlink(Symlink { target, path }: &Symlink, owner: Ids) -> Result<(), Failure> {
    let (dir, name) = dir_and_name(path).step_at(Step::MakeSymlink, path)?;
    symlinkat(target, &dir, name).step_at(Step::MakeSymlink, path)?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    fchownat(&dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).step_at(Step::MakeSymlink, path)
}

/// Deletes a file or an empty directory. A link is deleted itself.
pub(crate) fn delete(path: &Path) -> Result<(), Failure> {
    let (dir, name) = dir_and_name(path).step_at(Step::Delete, path)?;
    let deleted = match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => unlinkat(&dir, name, UnlinkatFlags::RemoveDir),
        other => other,
    };
    deleted.step_at(Step::Delete, path)
}

/// Opens a regular file. One that is created belongs to `program`.
pub(crate) fn open(file: &OpenRequest, program: Ids) -> Result<OwnedFd, Failure> {
    // No such file can be opened, and making its directories would take long.
    if beneath(&file.path).as_os_str().len() >= libc::PATH_MAX as usize {
        return Err(Failure::new(Step::Open, Errno::ENAMETOOLONG));
    }
    let start = start_of(&file.path).step(Step::Open)?;
    if let Some(parent) = file.path.parent().filter(|_| file.parents) {
        make_dirs(&start, parent, program)?;
    }
    let (path, flags) = (beneath(&file.path), OFlag::from_bits_retain(file.flags));
    let (fd, is_new) = open_or_create(&start, path, flags, file.mode).step(Step::Open)?;
    let kind = fstat(&fd).step(Step::Open)?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        let error = if kind == SFlag::S_IFDIR.bits() { Errno::EISDIR } else { Errno::EINVAL };
        return Err(Failure::new(Step::CheckRegularFile, error));
    }
    if is_new {
        let (uid, gid) = (Uid::from_raw(program.uid), Gid::from_raw(program.gid));
        fchown(&fd, Some(uid), Some(gid)).step(Step::SetOwner)?;
        // The umask does not apply.
        fchmod(&fd, Mode::from_bits_truncate(file.mode)).step(Step::SetOwner)?;
    }
    Ok(fd)
}

/// Opens a file, and creates it if the flags say so. Returns whether the file is new: only a new
/// file gets another owner.
fn open_or_create(start: &OwnedFd, path: &Path, flags: OFlag, mode: u32) -> nix::Result<(OwnedFd, bool)> {
    let create = flags.contains(OFlag::O_CREAT);
    let existing = flags - OFlag::O_CREAT - OFlag::O_EXCL;
    // A program may create and remove the name between the two attempts, but not forever.
    for _ in 0..100 {
        if !flags.contains(OFlag::O_EXCL) {
            match resolve(start, path, existing, 0) {
                Err(Errno::ENOENT) if create => {}
                other => return Ok((other?, false)),
            }
        }
        match resolve(start, path, existing | OFlag::O_CREAT | OFlag::O_EXCL, mode & 0o7777) {
            Err(Errno::EEXIST) if !flags.contains(OFlag::O_EXCL) => {}
            other => return Ok((other?, true)),
        }
    }
    Err(Errno::EAGAIN)
}

/// Makes every missing directory of `path` beneath `start`, for `owner`, and opens the last one.
pub(super) fn make_dirs(start: impl AsFd, path: &Path, owner: Ids) -> Result<OwnedFd, Failure> {
    // Most are there. A path that leads upwards is refused below.
    let leads_up = path.components().any(|component| component == Component::ParentDir);
    if let Some(dir) = resolve(&start, beneath(path), DIR, 0).ok().filter(|_| !leads_up) {
        return Ok(dir);
    }
    let mut last: Option<OwnedFd> = None;
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::at(Step::MakeDirectory, path, Errno::EINVAL));
            }
        };
        let parent = last.as_ref().map_or(start.as_fd(), AsFd::as_fd);
        let is_new = match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(Failure::at(Step::MakeDirectory, path, error)),
        };
        let dir = resolve(parent, Path::new(name), DIR, 0).step_at(Step::MakeDirectory, path)?;
        if is_new && owner != ROOT {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            fchownat(&dir, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).step_at(Step::SetOwner, path)?;
        }
        last = Some(dir);
    }
    match last {
        Some(dir) => Ok(dir),
        None => resolve(start, Path::new("."), DIR, 0).step_at(Step::MakeDirectory, path),
    }
}

/// The init's own ids. Everything that the init creates has them at first.
pub(super) const ROOT: Ids = Ids { uid: 0, gid: 0 };

const DIR: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// Opens a relative path beneath `start`.
pub(super) fn resolve(start: impl AsFd, path: &Path, flags: OFlag, mode: u32) -> nix::Result<OwnedFd> {
    // O_PATH allows few other flags, and never blocks.
    let always = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let unblocked = if flags.contains(OFlag::O_PATH) { OFlag::empty() } else { OFlag::O_NONBLOCK | OFlag::O_NOCTTY };
    let how = OpenHow::new()
        .flags(flags | always | unblocked)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // EAGAIN: a rename or a mount happened while the kernel walked a `..`, so the kernel cannot
    // prove that the walk stayed beneath `start`.
    for _ in 0..100 {
        match openat2(&start, path, how) {
            Err(Errno::EAGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// The directory at which a path starts: the root, or the working directory for a relative path.
fn start_of(path: &Path) -> nix::Result<OwnedFd> {
    let start = if path.is_absolute() { "/" } else { "." };
    openat(AT_FDCWD, start, DIR | OFlag::O_CLOEXEC, Mode::empty())
}

/// The path as a relative one. The root itself becomes `.`.
fn beneath(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn dir_and_name(path: &Path) -> nix::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let dir = beneath(path.parent().unwrap_or(Path::new("")));
    Ok((resolve(start_of(path)?, dir, DIR, 0)?, name))
}
