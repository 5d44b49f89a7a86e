//! The visible state of a file system.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, llistxattr, statfs, statx};

use crate::wire::RawFileSystem;

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
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let root = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        let fs = statfs(path)?;
        let size_only: &mut [u8] = &mut [];
        let state = RawFileSystem {
            path: path.to_owned(),
            mode: root.stx_mode.into(),
            owner: (root.stx_uid, root.stx_gid),
            links: root.stx_nlink,
            flags: root.stx_attributes.bits(),
            attributes: llistxattr(path, size_only)? as u64,
            bytes: (fs.f_blocks - fs.f_bfree).saturating_mul(fs.f_bsize as u64),
            inodes: fs.f_files - fs.f_ffree,
        };
        Ok(Self { state, changed: [root.stx_ctime, root.stx_mtime].map(|time| (time.tv_sec, time.tv_nsec)) })
    }

    pub(super) fn is_of(&self, path: &Path) -> bool {
        self.state.path == path
    }

    pub(super) fn into_state(self) -> RawFileSystem {
        self.state
    }
}
