//! The examples, run as a reader runs them.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod service;
