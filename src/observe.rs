//! Metrics through the `metrics` facade, and spans through `tracing`.
//!
//! The documentation of [`pool`](crate::pool) lists both.
//!
//! Invariant: callers report every event, whatever features are on. Without the features nothing
//! here does anything, has a size, or reads a clock.

mod figures;
mod run;
mod spans;

pub(crate) use figures::{Counted, Event, Level, Phase, Timer, count, describe};
pub(crate) use run::WatchedRun;
pub(crate) use spans::{RunSpan, in_container_span};
