//! The state of a container that runs can change.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;

/// The fields are those of [`Fingerprint`](crate::container::Fingerprint).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawFingerprint {
    pub(crate) limits: Vec<(u64, u64)>,
    pub(crate) priority: i64,
    pub(crate) io_priority: i64,
    pub(crate) scheduling: i64,
    pub(crate) cpus: Vec<u64>,
    pub(crate) ipc: [u64; 3],
    pub(crate) file_systems: Vec<RawFileSystem>,
}

/// The fields are those of [`FileSystem`](crate::container::FileSystem).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawFileSystem {
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u32,
    pub(crate) flags: u64,
    pub(crate) attributes: u64,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}
