//! What is known after a run, and its verdict.
//!
//! Invariant: a report is evidence, not judgment. The init measures once no process of the run is
//! alive, and the host adds what was in force. A figure that is not known is `None`, and each
//! figure names its source. The [`Verdict`] is a pure function of the report.

mod measured;
mod record;
mod text;
mod verdict;

pub use record::{Cause, Evidence, Protections, Report, Source, Sources, Status, Usage};
pub use verdict::Verdict;

#[cfg(test)]
mod tests;
