//! Programs beside a running one.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod runs;
