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
    /// The role of each attached descriptor, in order.
    pub(crate) fds: Vec<ConfigureFd>,
}

/// What a descriptor that comes with a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ConfigureFd {
    /// A mount tree of the mount with this index. The trees of one mount come in their order.
    MountTree(usize),
    /// The init keeps it: it reserves the container's ids.
    IdReservation,
    /// The init keeps it: its image is not removed meanwhile.
    ImageInUse,
}

/// The user and group id of a program, as seen inside the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
