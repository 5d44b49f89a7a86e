//! The door of the fuzz harnesses in `fuzz/harness`: the only internals that they use.
//!
//! The harnesses are compiled as a module of the library. `cargo test` plays their seeds that way,
//! and the unit tests share their fake init. The door stands in `container`, because most of the
//! internals are private to it. For a fuzzer it needs the feature `fuzz-harness` as well as
//! `cfg(fuzzing)`: the published package has no `fuzz/`, and `cfg(fuzzing)` is also set for every
//! dependency of a crate that is fuzzed.

use super::connection::Connection;
use super::info::ContainerInfo;
use super::launch::launch;
use super::processes::Pid1;
use super::spec::ContainerSpec;
use crate::command::Window;
use crate::error::{Failure, Step, printable};
use crate::init::files::{delete, make_directory, metadata, open, open_directory, read_link, rename, symlink};
use crate::limits::{GroupLimits, HostSupport, NprocScope, Rlimit};
use crate::pty::Pty;
use crate::seccomp::Filter;
use crate::sys::process::Pidfd;
use crate::sys::reactor::Async;
use crate::sys::{clone, memory, socket};
use crate::wire::datagram::MAX_PAYLOAD;
use crate::wire::{
    Broken, CgroupVersion, Counter, Datagram, Decoder, DefaultVariables, FdRole, Figure, Frame, GroupFigures,
    GroupFile, GroupFiles, Ids, KillReason, MAX_FDS, MAX_INLINE, MakeDirectory, Measurement, OpenRequest, Peer,
    RawFingerprint, RawMetadata, Rename, Reply, Request, StartBeside, StartRun, State, Strings, Symlink, Times,
    WaitStatus, encode,
};

// For the seeds.
#[cfg(test)]
use super::{ids::Mapping, launch::configuration};
#[cfg(test)]
use crate::wire::VERSION;

#[path = "../../fuzz/harness/mod.rs"]
pub(crate) mod harness;
pub use harness::{actor, commands, paths, replies, requests};
