//! The kernel's interface, and the crate's only `unsafe` code.
//!
//! Invariant: everything that other modules can reach is safe to call. A file descriptor is an
//! `OwnedFd` from the moment it exists, and closes on exec.
#![allow(unsafe_code)]

mod background;
pub(crate) mod before_main;
pub(crate) mod child;
pub(crate) mod clone;
pub(crate) mod kernel;
pub(crate) mod landlock;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod mountinfo;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod reactor;
pub(crate) mod reaper;
pub(crate) mod socket;
mod syscall;

pub(crate) use background::in_background;
