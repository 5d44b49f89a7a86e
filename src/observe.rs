//! What is told to whoever watches: figures through the `metrics` facade, spans through `tracing`.
//!
//! Invariant: the rest of the library tells everything, whatever features there are; without them nothing here does
//! anything, has a size or reads a clock.
//!
//! | name | kind | what |
//! |---|---|---|
//! | `cellblock_leases_total` | counter | containers lent |
//! | `cellblock_busy_total` | counter | leases refused because the queue was full |
//! | `cellblock_replaced_total` | counter | containers of a pool that were destroyed and are built anew |
//! | `cellblock_runs_total` | counter, by `verdict` | runs that ended with a report |
//! | `cellblock_seconds` | histogram, by `phase` | time: to `wait` for a lease, of a `lease`, a `reset`, a `build`, a `run` |

use crate::report::Report;

pub(crate) use figures::{Timer, count};
pub(crate) use spans::container;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Lease,
    Busy,
    Replaced,
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Wait,
    Lease,
    Reset,
    Build,
    Run,
}

/// A run that goes on, from the moment when it is sent to the init.
#[derive(Debug)]
pub(crate) struct WatchedRun {
    timer: Timer,
    span: spans::Run,
}

impl WatchedRun {
    pub(crate) fn start() -> Self {
        Self { timer: Timer::start(), span: spans::Run::start() }
    }

    pub(crate) fn ended(self, report: &Report) {
        self.timer.stop(Phase::Run);
        figures::ran(report);
        self.span.ended(report);
    }
}

#[cfg(feature = "metrics")]
mod figures {
    use std::time::Instant;

    use metrics::{counter, histogram};

    use super::{Event, Phase};
    use crate::report::Report;

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Timer(Instant);

    impl Timer {
        pub(crate) fn start() -> Self {
            Self(Instant::now())
        }

        pub(crate) fn stop(self, phase: Phase) {
            let phase = match phase {
                Phase::Wait => "wait",
                Phase::Lease => "lease",
                Phase::Reset => "reset",
                Phase::Build => "build",
                Phase::Run => "run",
            };
            histogram!("cellblock_seconds", "phase" => phase).record(self.0.elapsed());
        }
    }

    pub(crate) fn count(event: Event) {
        let name = match event {
            Event::Lease => "cellblock_leases_total",
            Event::Busy => "cellblock_busy_total",
            Event::Replaced => "cellblock_replaced_total",
        };
        counter!(name).increment(1);
    }

    pub(super) fn ran(report: &Report) {
        counter!("cellblock_runs_total", "verdict" => report.verdict().name()).increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
mod figures {
    use super::{Event, Phase};
    use crate::report::Report;

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn start() -> Self {
            Self
        }

        pub(crate) fn stop(self, _: Phase) {}
    }

    pub(crate) fn count(_: Event) {}

    pub(super) fn ran(_: &Report) {}
}

#[cfg(feature = "tracing")]
mod spans {
    use tracing::{Instrument, Span, field, info_span};

    use crate::report::Report;

    /// A container's life, from its build until it is destroyed.
    pub(crate) fn container<F: Future>(life: F) -> impl Future<Output = F::Output> {
        life.instrument(info_span!("container"))
    }

    #[derive(Debug)]
    pub(super) struct Run(Span);

    impl Run {
        pub(super) fn start() -> Self {
            Self(info_span!("run", status = field::Empty, verdict = field::Empty))
        }

        pub(super) fn ended(self, report: &Report) {
            self.0.record("status", field::display(report.status));
            self.0.record("verdict", report.verdict().name());
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod spans {
    use crate::report::Report;

    pub(crate) fn container<F: Future>(life: F) -> F {
        life
    }

    #[derive(Debug)]
    pub(super) struct Run;

    impl Run {
        pub(super) fn start() -> Self {
            Self
        }

        pub(super) fn ended(self, _: &Report) {}
    }
}
