//! What this machine grants to containers, what it withholds, what that costs, and how to fix it.
//!
//! [`diagnose()`] builds one container and reads the files of `/proc` and `/sys` that decide
//! whether containers work. It leaves nothing behind. Errors of
//! [`ContainerBuilder::build`](crate::ContainerBuilder::build) carry the same texts as
//! [hints](crate::Error::hint).
//!
//! The command `cellblock doctor` prints a diagnosis. The guide's page on
//! [deploying](crate::guide::deploying) lists what Docker, Kubernetes and systemd must allow.

// Invariant: `obstacles.rs` has the only list of what can stand in a container's way. The hints of
// errors and the findings of `diagnose` both come from its table.
//
// Of these files only `diagnose.rs` imports `container`. `container` imports `hints.rs`.

mod causes;
mod diagnose;
mod findings;
pub(crate) mod hints;
mod machine;
mod obstacles;
mod platform;
mod settings;
mod snippet;
mod subject;
mod survey;

#[cfg(test)]
mod tests;

pub use diagnose::diagnose;
pub use findings::{Diagnosis, Finding, Grant, Lack};
pub use platform::Platform;
pub use subject::Subject;
