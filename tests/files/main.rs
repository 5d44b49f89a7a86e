//! The root file system of a container, its files, and what a reset does to them.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod overlay;
mod reset;
mod rootfs;
