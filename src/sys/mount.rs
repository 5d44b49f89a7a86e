//! File systems as file descriptors: the mount calls of Linux 5.2, and mount_setattr(2) of 5.12.
//!
//! Invariant: a new mount is detached, private and nosuid. No process sees it before [`attach`].

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount, open_tree,
};

use super::syscall::syscall;

/// What a mount forbids. Every mount also forbids set-user-ID programs.
pub(crate) mod forbid {
    pub(crate) const WRITES: u64 = libc::MOUNT_ATTR_RDONLY;
    pub(crate) const DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
    pub(crate) const EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    pub(crate) const ACCESS_TIMES: u64 = libc::MOUNT_ATTR_NOATIME;
}

/// A detached copy of the mounts at and below `path`. The caller needs CAP_SYS_ADMIN over its mount
/// namespace.
pub(crate) fn copy_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

/// A detached copy of the mount at `path` without the mounts below it. `EINVAL` if those below are
/// locked: the mount must not be seen without them.
pub(crate) fn copy_mount(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// A detached copy of the mount of what lies at `path` below a directory, with that as its root.
/// Symbolic links are followed.
pub(crate) fn copy_below(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(open_tree(dir, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// A detached copy of the mount that this descriptor is open on, without the mounts below it.
pub(crate) fn copy_mount_of(mount: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(mount, c"", flags)?)
}

/// A detached mount of a directory beneath `dir`, without the mounts below it.
pub(crate) fn copy_directory(dir: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    Ok(open_tree(dir, path, flags)?)
}

/// Makes a whole tree of mounts private (later mounts do not propagate into it or out of it) and
/// nosuid, and forbids more.
pub(crate) fn restrict_tree(tree: impl AsFd, forbidden: u64) -> io::Result<()> {
    set_attributes(tree, c"", libc::AT_EMPTY_PATH | libc::AT_RECURSIVE, forbidden)
}

/// A new, detached file system of this type. An option with an empty value is a flag.
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

/// Changes an option of the mounted file system whose root this is.
pub(crate) fn reconfigure(root: impl AsFd, key: &str, value: &str) -> io::Result<()> {
    let context = fspick(root, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    fsconfig_set_string(context.as_fd(), key, value)?;
    Ok(fsconfig_reconfigure(context.as_fd())?)
}

/// Attaches a detached mount at the file or directory that `target` is open on. Moves a mount that
/// is attached elsewhere, with everything below it.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// Attaches a detached mount at `path` below a directory. Symbolic links on the way are followed.
pub(crate) fn attach_below(mount: impl AsFd, dir: impl AsFd, path: &str) -> io::Result<()> {
    Ok(move_mount(mount, c"", dir, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Detaches the mount of this directory, with everything below it. The working directory is in the
/// detached mount then.
pub(crate) fn detach(mount: impl AsFd) -> io::Result<()> {
    // The call takes a path only. This one leads to the mount also where another one covers it.
    nix::unistd::fchdir(mount)?;
    Ok(nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?)
}

/// Makes one mount read-only, nosuid and noatime. The mounts below it stay as they are.
pub(crate) fn make_read_only(mount: impl AsFd) -> io::Result<()> {
    set_attributes(mount, c"", libc::AT_EMPTY_PATH, forbid::WRITES | forbid::ACCESS_TIMES)
}

/// Maps the owners of a detached mount's files through the id maps of a user namespace. `EINVAL` if
/// the file system does not support that.
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
        // The access times are one field with several values: setting one clears the others.
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
    // SAFETY: the path ends with a NUL. The struct is the kernel's first version, and its size is
    // passed. Both outlive the call.
    unsafe { syscall(libc::SYS_mount_setattr, arguments) }.map(drop)
}
