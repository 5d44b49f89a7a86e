//! The root file system of a container, access to its files, and resets.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod copies;
mod overlay;
mod reset;
mod rootfs;
#[cfg(feature = "tar")]
mod tars;
mod trees;
