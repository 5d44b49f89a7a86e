//! What a run could change about its container, and must not leave changed for the next.
//!
//! Invariant: two fingerprints of one container are equal exactly where nothing of what stands here differs. A reset and the
//! tests compare the same thing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;
use crate::wire::{RawFileSystem, RawFingerprint};

/// The state of a container between runs: [`Container::fingerprint`](crate::Container::fingerprint).
///
/// A container takes its own when it is built. After each reset it is compared with a new one, and a container that differs is
/// destroyed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fingerprint {
    /// The init's resource limits, soft and hard, by the kernel's numbers.
    pub limits: Vec<(u64, u64)>,
    /// The init's nice value, or what the kernel calls its priority: 20 less that.
    pub priority: i64,
    /// The init's I/O priority, as ioprio_get(2) has it.
    pub io_priority: i64,
    /// The init's scheduling policy.
    pub scheduling: i64,
    /// The CPUs that the init may use, a bit for each.
    pub cpus: Vec<u64>,
    /// System V shared memory segments, semaphore sets, and message queues.
    pub ipc: [u64; 3],
    /// Every writable file system that is the container's own.
    pub file_systems: Vec<FileSystem>,
}

/// A tmpfs or an overlay, as its root directory and the kernel's count of what is in it show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileSystem {
    /// Where it is.
    #[serde(with = "bytes_path")]
    pub path: PathBuf,
    /// The type and permissions of its root.
    pub mode: u32,
    /// The owner and group of its root, as seen inside.
    pub owner: (u32, u32),
    /// The links to its root: two, and one for each directory in it.
    pub links: u32,
    /// The attributes of its root, as statx(2) has them.
    pub flags: u64,
    /// The bytes that the names of the root's extended attributes take.
    pub attributes: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}

impl Fingerprint {
    /// What differs, by name.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |name: &str, is_same: bool| {
            if !is_same {
                found.push(name.to_owned());
            }
        };
        compare("the init's resource limits", self.limits == other.limits);
        compare("the init's priority", self.priority == other.priority);
        compare("the init's I/O priority", self.io_priority == other.io_priority);
        compare("the init's scheduling policy", self.scheduling == other.scheduling);
        compare("the init's CPUs", self.cpus == other.cpus);
        compare("the System V objects", self.ipc == other.ipc);
        compare("the number of file systems", self.file_systems.len() == other.file_systems.len());
        for (own, others) in self.file_systems.iter().zip(&other.file_systems) {
            compare(&format!("what is at {}", own.path.display()), own == others);
        }
        found
    }
}

impl From<RawFingerprint> for Fingerprint {
    fn from(raw: RawFingerprint) -> Self {
        let RawFingerprint { limits, priority, io_priority, scheduling, cpus, ipc, file_systems } = raw;
        let file_systems = file_systems.into_iter().map(FileSystem::from).collect();
        Self { limits, priority, io_priority, scheduling, cpus, ipc, file_systems }
    }
}

impl From<RawFileSystem> for FileSystem {
    fn from(raw: RawFileSystem) -> Self {
        let RawFileSystem { path, mode, owner, links, flags, attributes, bytes, inodes } = raw;
        Self { path, mode, owner, links, flags, attributes, bytes, inodes }
    }
}
