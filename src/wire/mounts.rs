//! The mounts of a container's root file system.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MountEntry {
    #[serde(with = "bytes_path")]
    pub(crate) target: PathBuf,
    pub(crate) kind: MountKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountKind {
    Bind {
        #[serde(with = "bytes_path")]
        source: PathBuf,
        access: BindAccess,
    },
    Tmpfs(TmpfsOptions),
    Overlay {
        #[serde(with = "bytes_path::list")]
        lowers: Vec<PathBuf>,
        upper: TmpfsOptions,
    },
    /// Only processes, or with a machine also the files that describe it.
    Proc(Option<ShownMachine>),
    File(Content),
    /// A symbolic link with this target.
    Link(#[serde(with = "bytes_path")] PathBuf),
    FileSystem {
        name: String,
        options: Vec<(String, String)>,
    },
}

impl MountKind {
    /// Whether the file system belongs to the container: programs may write to it, and a reset
    /// makes it new.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Tmpfs(_) | Self::Overlay { .. })
    }
}

/// What a program may do through a bind mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BindAccess {
    ReadOnly,
    Writable,
    /// Read-only, but device nodes work: a write to a device is no write to its file system.
    Device,
}

/// A tmpfs: its limits, 0 for none, and the mode of its root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TmpfsOptions {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) mode: u32,
}

/// What the files of a proc say of the machine, besides its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShownMachine {
    pub(crate) memory_bytes: u64,
}

/// The content of a file that the init writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The users of the container: passwd(5).
    Users,
    /// The groups of the container: group(5).
    Groups,
    /// The addresses of `localhost` and of the host name: hosts(5).
    Hosts,
}
