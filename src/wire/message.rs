//! The requests and replies of the protocol, and when each request may be sent.
//!
//! Invariant: [`State`] alone decides which requests an init accepts at what time.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, bytes_path};

use super::configuration::Configure;
use super::files::{MakeDirectory, OpenRequest, Rename, Symlink};
use super::fingerprint::RawFingerprint;
use super::metadata::RawMetadata;
use super::report::{KillReason, Measurement};
use super::run::{GroupFiles, StartBeside, StartRun};

/// The protocol's version. The host and the init are usually the same build, but a separate init
/// executable may be another one.
pub(crate) const VERSION: u32 = 6;

/// The argument that makes a process an init.
pub(crate) const INIT_ARGUMENT: &str = "cellblock:init";

/// What the host asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The id maps are written: take ids and make pid 1. The first request, and the only one that
    /// stage one accepts.
    Start {
        /// Whether pid 1 gets a cgroup namespace, so that its children cannot leave its group.
        cgroup_namespace: bool,
    },
    Configure(Configure),
    Ping,
    Open(Vec<OpenRequest>),
    Symlink(Vec<Symlink>),
    MakeDirectories(Vec<MakeDirectory>),
    /// Delete files, links and empty directories.
    Delete(#[serde(with = "bytes_path::list")] Vec<PathBuf>),
    Rename(Rename),
    Metadata(#[serde(with = "bytes_path")] PathBuf),
    ReadLink(#[serde(with = "bytes_path")] PathBuf),
    /// Open a directory, for the host to list it.
    OpenDirectory(#[serde(with = "bytes_path")] PathBuf),
    /// Bring everything that runs may have changed back to its first state, or fail.
    Reset,
    /// Make the present state of the file systems the first one, and bring all else back to its
    /// first state.
    Freeze,
    Fingerprint,
    /// From now on these files, in place of earlier ones, are those of the runs' group. Has no
    /// reply.
    Join(GroupFiles),
    StartRun(StartRun),
    /// Start another run beside the current one. Refused if that one is not running any more.
    StartBeside(StartBeside),
    /// Kill the run with this id, for this reason. Has no reply of its own: the run's reply answers
    /// it. Ignored if that run is over.
    Kill(u64, KillReason),
    /// Send the signal with this number to the first process of the run with this id. Refused if
    /// that process has ended.
    Signal(u64, i32),
}

/// What the init answers. A reply carries its request's id; an unsolicited one carries 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Stage one speaks this version, has a user namespace, and waits for its id maps.
    Hello(u32),
    /// Pid 1 exists; its pidfd is attached.
    Started,
    /// The request was carried out: configure, ping, rename, reset, freeze or signal.
    Done,
    /// One result for each requested file; a descriptor is attached for each that is `None`.
    Opened(Vec<Option<Failure>>),
    /// One result for each link or directory to make, or for each path to delete.
    Each(Vec<Option<Failure>>),
    Metadata(RawMetadata),
    /// What a link points to.
    Target(#[serde(with = "bytes_path")] PathBuf),
    /// The requested directory; its descriptor is attached.
    Directory,
    Fingerprint(RawFingerprint),
    /// The reset was carried out, but the container differs from its first state.
    Differs {
        first: RawFingerprint,
        now: RawFingerprint,
    },
    /// The process of a run with `announce` exists; its pidfd is attached. The run's own reply
    /// follows.
    Forked,
    /// The run has ended and none of its processes is alive.
    Ended(Measurement),
    Failed(Failure),
}

/// The state of an init, which decides the requests that it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Stage one, after its hello.
    Unshared,
    /// Pid 1, without a root file system.
    Born,
    Idle,
    /// A run is going on, and perhaps others beside it.
    Running,
}

impl State {
    pub(crate) fn admits(self, request: &Request) -> bool {
        match request {
            Request::Start { .. } => self == Self::Unshared,
            Request::Configure(_) => self == Self::Born,
            Request::StartRun(_) | Request::Reset | Request::Freeze => self == Self::Idle,
            Request::Fingerprint | Request::Join(_) => self == Self::Idle,
            // The run that these three are about may have ended while they were on their way.
            Request::StartBeside(_) | Request::Kill(..) | Request::Signal(..) => self.is_serving(),
            Request::Ping | Request::Open(_) | Request::OpenDirectory(_) | Request::Metadata(_) => self.is_serving(),
            Request::ReadLink(_) | Request::Symlink(_) | Request::MakeDirectories(_) => self.is_serving(),
            Request::Delete(_) | Request::Rename(_) => self.is_serving(),
        }
    }

    /// Whether the container is built.
    fn is_serving(self) -> bool {
        matches!(self, Self::Idle | Self::Running)
    }
}
