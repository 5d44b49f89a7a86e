//! The modes and times of a tree's directories.
//!
//! Invariant: they are set once the tree is complete, since a mode may keep the owner from writing
//! to a directory.

use std::collections::BTreeMap;

use rustix::fs::{AtFlags, Mode, Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use super::tree::{Tree, split};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    /// In seconds since 1970.
    pub(super) modified: i64,
}

/// Those of a directory that an image only names in paths.
impl Default for Attributes {
    fn default() -> Self {
        Self { mode: 0o755, modified: 0 }
    }
}

impl Attributes {
    pub(super) fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.modified, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// The attributes of directories, by their paths from the root, without a first slash.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Directories(BTreeMap<ByteBuf, Option<Attributes>>);

impl Directories {
    /// Records a directory of which only the path is known.
    pub(super) fn add(&mut self, path: &[u8]) {
        self.0.entry(ByteBuf::from(path)).or_insert(None);
    }

    pub(super) fn set(&mut self, path: &[u8], attributes: Attributes) {
        self.0.insert(ByteBuf::from(path), Some(attributes));
    }

    /// Forgets a directory and all below it.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.0.remove(Bytes::new(path));
        self.forget_below(path);
    }

    /// Forgets all below a directory.
    pub(super) fn forget_below(&mut self, path: &[u8]) {
        if path.is_empty() {
            self.0.retain(|path, _| path.is_empty());
            return;
        }
        // The byte after the slash ends the range.
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<_> =
            self.0.range(ByteBuf::from(first)..ByteBuf::from(end)).map(|(path, _)| path.clone()).collect();
        for path in &below {
            self.0.remove(path);
        }
    }

    /// The attributes of a directory, unless only its path is known.
    pub(super) fn get(&self, path: &[u8]) -> Option<Attributes> {
        self.0.get(Bytes::new(path)).copied().flatten()
    }

    /// Sets the attributes of all directories, the deepest first. The root's are the
    /// caller's to set.
    pub(super) fn apply(&self, tree: &Tree) -> rustix::io::Result<()> {
        for (path, attributes) in self.0.iter().rev().filter(|(path, _)| !path.is_empty()) {
            let attributes = attributes.unwrap_or_default();
            let (parent, name) = split(path);
            let parent = tree.directory(parent)?;
            rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
            rustix::fs::utimensat(&parent, name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}
