//! The null device of the runs.
//!
//! Invariant: a run opens the device itself, so nothing that it does to its open file description
//! is left for the next run. The mount is read-only: no program changes the device's mode, times or
//! attributes, not even with the rights of the device's owner. No program can reach the directory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::mount::{attach, copy_tree, forbid, new_file_system, restrict_tree};

/// A directory that is in no mount namespace, with the host's null device in it.
#[derive(Debug)]
pub(super) struct NullDevice(OwnedFd);

impl NullDevice {
    /// The device's path beneath the directory. Programs see it as the name of their streams.
    pub(super) const PATH: &'static CStr = c"dev/null";

    /// Makes the directory. The working directory is the new root, and the host's root is still
    /// the root. Older kernels mount nothing on a detached mount, so the directory is attached for
    /// a moment, and copied with its mount.
    pub(super) fn make(root: &OwnedFd) -> io::Result<Self> {
        const PLACE: &str = "devices";
        let options = [("size", "4k"), ("nr_inodes", "3"), ("mode", "0700")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let dir = new_file_system("tmpfs", &options, forbid::DEVICES)?;
        mkdirat(&dir, "dev", Mode::S_IRWXU)?;
        openat(&dir, Self::PATH, OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::S_IRUSR)?;

        mkdirat(root, PLACE, Mode::S_IRWXU)?;
        attach(&dir, open_place(root, PLACE)?)?;
        attach(copy_of_null()?, openat(&dir, Self::PATH, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)?;
        let copy = copy_tree(Path::new(PLACE))?;
        umount2(PLACE, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
        unlinkat(root, PLACE, UnlinkatFlags::RemoveDir)?;
        Ok(Self(copy))
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A copy of the mount of the host's null device. It is read-only: a write to a device is no write
/// to its file system.
pub(super) fn copy_of_null() -> io::Result<OwnedFd> {
    let null = copy_tree(Path::new("/dev/null"))?;
    restrict_tree(&null, forbid::WRITES | forbid::EXEC)?;
    Ok(null)
}

fn open_place(root: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    openat(root, name, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}
