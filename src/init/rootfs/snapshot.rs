//! The visible state of a file system.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use rustix::fs::{AtFlags, StatxFlags, flistxattr, fstatfs, statx};

use crate::init::files::resolve;
use crate::wire::{RawFileSystem, TmpfsOptions};

/// Everything about an empty tmpfs that a program can change: its root directory, and how much the
/// tmpfs holds.
#[derive(PartialEq)]
pub(super) struct Snapshot {
    state: RawFileSystem,
    /// The ctime and the mtime of the root. A change that the state does not show moves the ctime.
    /// With a coarse clock (before Linux 6.13) a change within the clock tick of the mount is
    /// missed.
    changed: [(i64, u32); 2],
}

impl Snapshot {
    /// The state of the file system of this directory, which is mounted at `path`.
    pub(super) fn take(dir: &OwnedFd, path: &Path) -> io::Result<Self> {
        let root = statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let fs = fstatfs(dir)?;
        // The names of attributes need a descriptor that is open for reading.
        let readable = resolve(dir, Path::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
        let size_only: &mut [u8] = &mut [];
        let state = RawFileSystem {
            path: path.to_owned(),
            mode: root.stx_mode.into(),
            owner: (root.stx_uid, root.stx_gid),
            links: root.stx_nlink,
            flags: root.stx_attributes.bits(),
            attributes: flistxattr(readable, size_only)? as u64,
            bytes: (fs.f_blocks - fs.f_bfree).saturating_mul(fs.f_bsize as u64),
            inodes: fs.f_files - fs.f_ffree,
        };
        Ok(Self { state, changed: [root.stx_ctime, root.stx_mtime].map(|time| (time.tv_sec, time.tv_nsec)) })
    }

    pub(super) fn into_state(self) -> RawFileSystem {
        self.state
    }
}

/// A tmpfs since it was new.
pub(super) struct NewState {
    snapshot: Snapshot,
    /// The number of the last inode that the tmpfs has made. A file without a name moves it, and
    /// changes nothing else once it is closed.
    last_inode: u64,
}

impl NewState {
    /// The state of a tmpfs with these options, by its root and the directory in it that programs
    /// see. `None` if it has no room for the inode that shows whether it was touched.
    pub(super) fn take(options: TmpfsOptions, root: &OwnedFd, dir: &OwnedFd) -> io::Result<Option<Self>> {
        if options.bytes == 0 || options.inodes <= 1 {
            return Ok(None);
        }
        let last_inode = new_inode(root)?;
        Ok(Some(Self { last_inode, snapshot: Snapshot::take(dir, Path::new("."))? }))
    }

    /// Whether no program has touched the tmpfs. The question itself moves its inode numbers by
    /// one.
    pub(super) fn check_unchanged(&mut self, root: &OwnedFd, dir: &OwnedFd) -> bool {
        let Ok(inode) = new_inode(root) else { return false };
        let expected = std::mem::replace(&mut self.last_inode, inode).wrapping_add(1);
        inode == expected && Snapshot::take(dir, Path::new(".")).is_ok_and(|now| now == self.snapshot)
    }
}

/// Makes a file without a name, and returns its inode number. A tmpfs numbers its inodes in order.
fn new_inode(root: &OwnedFd) -> io::Result<u64> {
    let file = resolve(root, Path::new("."), OFlag::O_TMPFILE | OFlag::O_RDWR, 0o600)?;
    Ok(fstat(file)?.st_ino)
}
