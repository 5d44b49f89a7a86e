//! What the host and the init say to each other.
//!
//! A message is an id and a [`Request`] or a [`Reply`]; [`encode`] and [`Decoder`] know how it
//! travels.
//!
//! Invariant: the types here are the protocol's own. The host converts public types to and from
//! them, so the protocol can change without a change to the public interface.

mod configuration;
pub(crate) mod datagram;
mod files;
mod fingerprint;
mod message;
mod metadata;
mod mounts;
mod report;
mod run;

pub(crate) use configuration::{Configure, ConfigureFd, FilterChoice, Ids};
pub(crate) use datagram::{Broken, Datagram, Decoder, Frame, MAX_FDS, MAX_INLINE, Peer, encode};
pub(crate) use files::{MakeDirectory, OpenRequest, Rename, Symlink};
pub(crate) use fingerprint::{RawFileSystem, RawFingerprint};
pub(crate) use message::{INIT_ARGUMENT, Reply, Request, State, VERSION};
pub(crate) use metadata::RawMetadata;
pub(crate) use mounts::{BindAccess, Content, MountEntry, MountKind, ShownMachine, TmpfsOptions};
pub(crate) use report::{CgroupVersion, GroupFigures, KillReason, Measurement, WaitStatus};
pub(crate) use run::{
    Counter, DefaultVariables, FdRole, Figure, GroupFile, GroupFiles, RawRlimit, StartBeside, StartRun, Strings, Times,
};

#[cfg(test)]
mod tests;
