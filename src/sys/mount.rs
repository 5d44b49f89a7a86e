//! File systems as file descriptors: the mount calls of Linux 5.2, and mount_setattr(2) of 5.12.
//!
//! Invariant: a mount made here is detached, private, nosuid and not yet visible to anybody; [`attach`] is what shows it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// What a mount forbids, beside set-user-ID programs.
pub(crate) mod forbid {
    pub(crate) const WRITES: u64 = libc::MOUNT_ATTR_RDONLY;
    pub(crate) const DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
    pub(crate) const EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    pub(crate) const ACCESS_TIMES: u64 = libc::MOUNT_ATTR_NOATIME;
}

/// A copy of the mounts at and below `path`, in no namespace yet. The caller needs CAP_SYS_ADMIN over its mount namespace.
pub(crate) fn copy_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// A copy of the mount at `path` without those below it. `EINVAL` where there are some that must not be seen without.
pub(crate) fn copy_mount(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// Makes a tree private (nothing mounted in it shows outside, or the other way round) and nosuid, and forbids more,
/// all the way down.
pub(crate) fn restrict_tree(tree: impl AsFd, forbidden: u64) -> io::Result<()> {
    set_attributes(tree, c"", libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, forbidden)
}

/// A new file system of this type, in no namespace yet. An option without a value is a flag.
pub(crate) fn new_file_system(name: &str, options: &[(String, String)], forbidden: u64) -> io::Result<OwnedFd> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), key.as_str())?;
        } else {
            fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?;
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain((forbidden | libc::MOUNT_ATTR_NOSUID) as u32);
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Shows a detached mount at the file or directory that `target` is open on.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// Makes one mount read-only, nosuid and noatime, and leaves those below it as they are.
pub(crate) fn make_read_only(path: &CStr) -> io::Result<()> {
    set_attributes(CWD, path, 0, forbid::WRITES | forbid::ACCESS_TIMES)
}

/// Shows the files of a mount in no namespace under other owners, as the id maps of a user namespace say. `EINVAL` where the file
/// system cannot.
pub(crate) fn map_owners(mount: impl AsFd, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    mount_setattr(mount, c"", libc::AT_EMPTY_PATH, &attributes)
}

fn set_attributes(dir: impl AsFd, path: &CStr, flags: i32, set: u64) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set | libc::MOUNT_ATTR_NOSUID,
        // Access times are one field of several values: what was there goes when one of them is set.
        attr_clr: if set & forbid::ACCESS_TIMES != 0 { libc::MOUNT_ATTR__ATIME } else { 0 },
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    mount_setattr(dir, path, flags, &attributes)
}

fn mount_setattr(dir: impl AsFd, path: &CStr, flags: i32, attributes: &libc::mount_attr) -> io::Result<()> {
    let arguments = [
        dir.as_fd().as_raw_fd() as usize,
        path.as_ptr() as usize,
        flags as usize,
        ptr::from_ref(attributes) as usize,
        size_of::<libc::mount_attr>(),
    ];
    // SAFETY: the fd is open, the path ends with its NUL, the struct is the kernel's first version of it and its size is
    // told; all three outlive the call.
    unsafe { super::raw_syscall(libc::SYS_mount_setattr, arguments) }.map_err(io::Error::from_raw_os_error)?;
    Ok(())
}
