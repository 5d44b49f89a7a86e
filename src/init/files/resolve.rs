//! Paths of a container, resolved one at a time.
//!
//! Invariant: a path is resolved beneath its start, without following links or magic links and
//! without blocking.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use crate::error::Failure;
use crate::wire::Ids;

/// The init's own ids. Everything that the init creates has them at first.
pub(crate) const ROOT: Ids = Ids { uid: 0, gid: 0 };

pub(super) const DIR: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// Opens a relative path beneath `start`.
pub(crate) fn resolve(start: impl AsFd, path: &Path, flags: OFlag, mode: u32) -> nix::Result<OwnedFd> {
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

/// The directory at which a path starts.
pub(super) enum Start {
    WorkDir,
    Root(OwnedFd),
}

impl Start {
    /// The root, or the working directory for a relative path.
    pub(super) fn of(path: &Path) -> nix::Result<Self> {
        if path.is_relative() {
            return Ok(Self::WorkDir);
        }
        openat(AT_FDCWD, "/", DIR | OFlag::O_CLOEXEC, Mode::empty()).map(Self::Root)
    }
}

impl AsFd for Start {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::WorkDir => AT_FDCWD,
            Self::Root(root) => root.as_fd(),
        }
    }
}

/// The path as a relative one. The root itself becomes `.`.
pub(super) fn beneath(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Whether a path is longer than the kernel takes. No such file exists, and to make its directories
/// would take long.
pub(super) fn is_too_long(path: &Path) -> bool {
    beneath(path).as_os_str().len() >= libc::PATH_MAX as usize
}

/// Opens what a path leads to, without its content. A link is opened itself.
pub(super) fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    resolve(Start::of(path)?, beneath(path), OFlag::O_PATH, 0)
}

/// Opens the directory of a path, and returns the name in it.
pub(super) fn dir_and_name(path: &Path) -> nix::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let dir = beneath(path.parent().unwrap_or(Path::new("")));
    Ok((resolve(Start::of(path)?, dir, DIR, 0)?, name))
}

/// The failure of one of many steps. The host knows the paths, and thousands of them would not fit
/// into one message.
pub(super) fn without_path(result: Result<(), Failure>) -> Option<Failure> {
    result.err().map(|failure| Failure { path: None, ..failure })
}
