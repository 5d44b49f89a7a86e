//! What a container is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::bytes_path;

use super::files::Symlink;
use super::mounts::MountEntry;
use super::run::Strings;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Configure {
    pub(crate) mounts: Vec<MountEntry>,
    pub(crate) symlinks: Vec<Symlink>,
    #[serde(with = "bytes_path::list")]
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) program: Ids,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    #[serde(with = "bytes_path")]
    pub(crate) work_dir: PathBuf,
    /// Variables of runs that set them neither themselves nor in `/.env`.
    pub(crate) env: Strings,
    pub(crate) filter: FilterChoice,
    /// Whether the runs' group is one of cgroup v2, into which they are cloned.
    pub(crate) clones_into_group: bool,
    pub(crate) loopback: bool,
}

/// The user and group id of a program, as seen inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The system-call filter that the init installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FilterChoice {
    Off,
    Denylist {
        /// Whether a call that no program makes by accident ends it.
        kills: bool,
    },
}
