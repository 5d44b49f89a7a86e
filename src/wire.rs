//! What the host and the init say to each other.
//!
//! A message is an id and a [`Request`] or a [`Reply`]; [`encode`] and [`Decoder`] know how it travels.
//!
//! Invariant: what an init may be asked, and when, is [`State`]'s to say, and nobody else's.

pub(crate) mod datagram;
mod files;
mod run;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, bytes_path};
use crate::fingerprint::Fingerprint;
use crate::mount::Mount;
use crate::report::{Measured, Reason};
use crate::seccomp::Filter;

pub(crate) use datagram::{Broken, Datagram, Decoder, Frame, MAX_FDS, MAX_INLINE, Peer, encode};
pub use files::OpenFile;
pub(crate) use files::Symlink;
pub(crate) use run::{Counter, FdRole, Figure, GroupFile, GroupFiles, StartRun, Strings};

/// The protocol's version. Host and init are usually the same build; a separate init executable may not be.
pub(crate) const VERSION: u32 = 5;

/// The argument that makes a process an init.
pub(crate) const INIT_ARGUMENT: &str = "cellblock:init";

/// What the host asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The id maps are written: take ids, make pid 1, in a cgroup namespace of its own where its group is not to be left by its
    /// children. The first request, and stage one's only one.
    Start {
        cgroup_namespace: bool,
    },
    Configure(Configure),
    Ping,
    Open(Vec<OpenFile>),
    Symlink(Vec<Symlink>),
    Delete(#[serde(with = "bytes_path")] PathBuf),
    /// Everything that runs may have changed as good as new, or else a failure.
    Reset,
    Fingerprint,
    /// From now on these are the files of the runs' group, in the place of others. Has no reply of its own.
    Join(GroupFiles),
    StartRun(StartRun),
    /// Ends the run with this id, for this reason. Has no reply of its own; the run's is its answer. Ignored where that run
    /// is over.
    Kill(u64, Reason),
}

/// What the init answers. A reply carries its request's id; what the init says unasked carries 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Stage one speaks this version, has a user namespace, and waits for its id maps.
    Hello(u32),
    /// Pid 1 is there; its pidfd is attached.
    Started,
    /// Done: configure, ping, delete, reset.
    Done,
    /// One result for each file asked for; an fd is attached for each that is `None`.
    Opened(Vec<Option<Failure>>),
    /// One result for each link asked for.
    Linked(Vec<Option<Failure>>),
    Fingerprint(Fingerprint),
    /// A reset has been carried out, and these things differ from what they were at first.
    Differs(Vec<String>),
    /// A run to be announced has its process; a pidfd of the process is attached. The run's own reply is still to come.
    Forked,
    /// The run has ended and nothing of it is alive.
    Ended(Measured),
    Failed(Failure),
}

/// Where an init stands, and so what it may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Stage one, after its hello.
    Unshared,
    /// Pid 1, without a root file system.
    Born,
    Idle,
    Running,
}

impl State {
    pub(crate) fn admits(self, request: &Request) -> bool {
        match request {
            Request::Start { .. } => self == Self::Unshared,
            Request::Configure(_) => self == Self::Born,
            Request::StartRun(_) | Request::Reset | Request::Fingerprint | Request::Join(_) => self == Self::Idle,
            Request::Ping | Request::Open(_) | Request::Symlink(_) | Request::Delete(_) | Request::Kill(..) => {
                matches!(self, Self::Idle | Self::Running)
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Configure {
    pub(crate) mounts: Vec<Attach>,
    pub(crate) symlinks: Vec<Symlink>,
    #[serde(with = "bytes_path::list")]
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) program: Ids,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    #[serde(with = "bytes_path")]
    pub(crate) work_dir: PathBuf,
    pub(crate) filter: Filter,
    /// Whether the runs' group is one of cgroup v2, into which they are cloned.
    pub(crate) clones_into_group: bool,
    pub(crate) loopback: bool,
}

/// A mount, and how many of the mount trees it is made of are attached (otherwise the init makes them).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) mount: Mount,
    pub(crate) trees: usize,
}

/// The user and group id of a program, as seen inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[cfg(test)]
mod tests;
