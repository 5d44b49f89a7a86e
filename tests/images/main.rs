//! Images: what the store unpacks, what it refuses, and containers with an image for their root.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod containers;
mod hostile;
mod make;
mod store;
mod tools;
