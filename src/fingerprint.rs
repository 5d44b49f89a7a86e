//! What a run could change about its container, and must not leave changed for the next run.
//!
//! Invariant: a reset and the tests compare the same state.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;
use crate::wire::{RawFileSystem, RawFingerprint};

/// The state of a container between runs:
/// [`Container::fingerprint`](crate::Container::fingerprint).
///
/// A container takes its first fingerprint when it is built. After each reset it takes a new one,
/// and a container whose fingerprint differs from the first is destroyed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fingerprint {
    /// The init's resource limits, soft and hard, indexed by the kernel's numbers.
    pub limits: Vec<(u64, u64)>,
    /// The init's priority: 20 minus its nice value.
    pub priority: i64,
    /// The init's I/O priority, as ioprio_get(2) returns it.
    pub io_priority: i64,
    /// The init's scheduling policy.
    pub scheduling: i64,
    /// The CPUs that the init may use, one bit each.
    pub cpus: Vec<u64>,
    /// How many System V shared memory segments, semaphore sets and message queues exist.
    pub ipc: [u64; 3],
    /// Every file system that belongs to the container.
    pub file_systems: Vec<FileSystem>,
}

/// The state of a tmpfs or an overlay: its root directory, and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileSystem {
    /// Where it is mounted.
    #[serde(with = "bytes_path")]
    pub path: PathBuf,
    /// The type and permissions of its root.
    pub mode: u32,
    /// The owner and group of its root, as seen inside the container.
    pub owner: (u32, u32),
    /// The number of links to its root: two, and one for each directory in it.
    pub links: u32,
    /// The attributes of its root, as statx(2) returns them.
    pub flags: u64,
    /// The size of the names of its root's extended attributes, in bytes.
    pub attributes: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}

impl Fingerprint {
    /// The names of the parts that differ.
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
