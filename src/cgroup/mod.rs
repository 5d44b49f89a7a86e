//! Control groups of the runs, on the host's side: found, made, set and removed.
//!
//! [`Hierarchy`] is where this process may make groups. [`RunGroup`] is the group of the runs of
//! one container. The init stays outside of that group, so no limit of a run touches the init.
//!
//! Invariant: this process locks every group directory that it makes, and removes it when its value
//! is dropped. An unlocked directory belonged to a host that has died. The next host that looks for
//! a hierarchy removes it.

mod charges;
mod directory;
mod hierarchy;
mod join_request;
mod proc_cgroup;
mod run_group;
mod v1;
mod v2;

pub(crate) use hierarchy::Hierarchy;
pub(crate) use join_request::JoinRequest;
pub(crate) use proc_cgroup::ProcCgroup;
pub(crate) use run_group::{PlaceBeside, RunGroup};
