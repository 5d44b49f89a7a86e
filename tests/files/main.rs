//! The root file system of a container, access to its files, and resets.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod baseline;
mod copies;
mod overlay;
mod reset;
mod root;
mod rootfs;
#[cfg(feature = "tar")]
mod tars;
mod trees;
