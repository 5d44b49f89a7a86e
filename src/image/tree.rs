//! Directory trees below a descriptor.
//!
//! Invariant: no call leaves the tree or follows a symbolic link. Each path is resolved by the
//! kernel (openat2(2)), beneath the descriptor of the tree's root.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A descriptor of a directory that only serves to resolve names in it.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A tree that the store owns, by the descriptor of its root.
pub(super) struct Tree(OwnedFd);

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    /// Opens the directory at a relative path. An empty path is the root.
    pub(super) fn directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.0, path, DIRECTORY, Mode::empty(), BENEATH)
    }

    /// Opens a directory, and makes the directories on the way that are missing.
    pub(super) fn make_directory(&self, path: &[u8]) -> Result<OwnedFd> {
        match self.directory(path) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        let mut directory = self.directory(b"")?;
        for name in path.split(|&byte| byte == b'/') {
            match rustix::fs::mkdirat(&directory, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            directory = rustix::fs::openat2(&directory, name, DIRECTORY, Mode::empty(), BENEATH)?;
        }
        Ok(directory)
    }

    /// The root, opened for listing.
    pub(super) fn list(&self) -> Result<Dir> {
        open_directory(self.0.as_fd(), c".").and_then(Dir::new)
    }
}

/// Opens a directory, for listing or for a lock. It is no link.
pub(super) fn open_directory(parent: BorrowedFd<'_>, path: impl Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::empty())
}

/// The path of the directory that has the last name of a path, and that name. The path is not
/// empty.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Removes a file, or a directory with all that it has. It is no error if there is none.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    clear(parent, name)?;
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a file as [`remove`] does, by a name that may not be a C string yet.
pub(super) fn remove_named(parent: &OwnedFd, name: &[u8]) -> Result<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    remove(parent.as_fd(), &name)
}

/// Removes what a directory has. The mode of the directory, or of one in it, may keep its owner
/// out; it is changed first.
pub(super) fn clear(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let opened = match open_directory(parent, name) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open_directory(parent, name)
        }
        opened => opened,
    };
    let directory = match opened {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    rustix::fs::fchmod(&directory, Mode::RWXU)?;
    let mut entries = Dir::new(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            remove(entries.fd()?, entry.file_name())?;
        }
    }
    Ok(())
}

/// Whether a name that a directory lists is the directory itself or its parent.
pub(super) fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
