//! The guide: how to use the library, one page for each subject.
//!
//! | page | what it shows |
//! |---|---|
//! | [`first_run`] | the first program in a container |
//! | [`world`] | what programs see: files, users, names and the machine |
//! | [`limits_and_verdicts`] | limits, reports, and verdicts |
//! | [`files`] | files in and out of a container, bind mounts, overlays |
//! | [`images`] | container images as root file systems |
//! | [`pools`] | containers that are kept ready and leased |
//! | [`service`] | an HTTP service on a pool |
//! | [`sessions`] | an interpreter that lives, signals, and programs beside it |
//! | [`resets`] | what a reset removes, and what it does not |
//! | [`deploying`] | what Docker, Kubernetes, systemd and ordinary users must allow |
//!
//! The examples of this crate are whole programs: `hello`, `service` (axum), `batch` (a thousand
//! runs with metrics), `interactive` (two programs that talk) and `session` (one interpreter that
//! runs cell after cell). Start one with `cargo run --example NAME`.

#[doc = include_str!("first_run.md")]
pub mod first_run {}

#[doc = include_str!("world.md")]
pub mod world {}

#[doc = include_str!("limits_and_verdicts.md")]
pub mod limits_and_verdicts {}

#[doc = include_str!("files.md")]
pub mod files {}

#[cfg_attr(feature = "images", doc = include_str!("images.md"))]
#[cfg_attr(not(feature = "images"), doc = "This page needs the feature `images`.")]
pub mod images {}

#[doc = include_str!("pools.md")]
pub mod pools {}

#[doc = include_str!("service.md")]
pub mod service {}

#[doc = include_str!("sessions.md")]
pub mod sessions {}

#[doc = include_str!("resets.md")]
pub mod resets {}

#[doc = include_str!("deploying.md")]
pub mod deploying {}
