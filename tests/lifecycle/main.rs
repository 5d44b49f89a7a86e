//! How containers are built, how they end, and what is left of them: nothing.
//!
//! A test here compares what its process has before and after. So tests run one at a time: each takes its
//! [turn](common::turn).
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod builds;
mod doctor;
mod drops;
mod ends;
mod hostile;
mod hosts;
mod model;
mod protocol;
mod storm;

/// Not a test: the other process of a test that needs one. See [`common::another_host`].
#[test]
fn another_host() {
    let Ok(role) = std::env::var(common::ROLE) else { return };
    match role.split_once('/') {
        Some(("doctor", part)) => doctor::play(part),
        Some(("ends", part)) => ends::play(part),
        Some(("hosts", part)) => hosts::play(part),
        _ => panic!("no such role: {role}"),
    }
}
