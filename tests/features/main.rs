//! The optional features: metrics, tracing spans, and a pool as a tower service.
//!
//! A suite by itself, because it is built only with all features:
//! `cargo test --all-features --test features`.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod metrics;
mod service;
mod spans;
