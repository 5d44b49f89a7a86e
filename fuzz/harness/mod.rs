//! The fuzz harnesses: for each target, what its input means and what must hold.
//!
//! The harnesses are a module of the library, which has it in its unit tests and when it is fuzzed.
//! They reach the library's internals through [`crate::container::fuzzing`] only.

mod actor;
mod commands;
mod decoders;
#[cfg_attr(not(test), expect(dead_code, reason = "unit tests use the rest"))]
pub(crate) mod fake_init;
mod leaks;
mod paths;
#[cfg(test)]
mod random;
#[cfg(test)]
mod seeds;

pub use actor::actor;
pub use commands::commands;
pub use decoders::{replies, requests};
pub use paths::paths;
