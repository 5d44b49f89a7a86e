//! How containers are built, how they end, and that nothing is left of them.
//!
//! Many tests compare what the process has before and after, so all tests of this suite run one at
//! a time: each takes a [turn](common::turn).
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod beside;
mod builds;
mod doctor;
mod drops;
mod ends;
mod hostile;
mod hosts;
mod model;
mod protocol;
mod storm;

/// Not a test: the part that [`common::another_host`] runs in another process.
#[test]
fn another_host() {
    let Ok(role) = std::env::var(common::ROLE) else { return };
    match role.split_once('/') {
        Some(("beside", _)) => beside::play(),
        Some(("doctor", part)) => doctor::play(part),
        Some(("ends", part)) => ends::play(part),
        Some(("hosts", part)) => hosts::play(part),
        _ => panic!("no such role: {role}"),
    }
}
