//! Metrics through the `metrics` facade, and spans through `tracing`.
//!
//! The documentation of [`pool`](crate::pool) lists the metrics.
//!
//! Invariant: callers report every event, whatever features are on. Without the features nothing
//! here does anything, has a size, or reads a clock.

use crate::report::Report;

pub(crate) use figures::{Timer, count};
pub(crate) use spans::in_container_span;

/// An event that a counter counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Lease,
    Busy,
    Replaced,
}

/// A phase whose duration a histogram records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Wait,
    Lease,
    Reset,
    Build,
    Run,
}

/// The metrics and the span of a run, from the moment at which it is sent to the init.
#[derive(Debug)]
pub(crate) struct WatchedRun {
    timer: Timer,
    span: spans::RunSpan,
}

impl WatchedRun {
    pub(crate) fn start() -> Self {
        Self { timer: Timer::start(), span: spans::RunSpan::start() }
    }

    pub(crate) fn finish(self, report: &Report) {
        self.timer.stop(Phase::Run);
        figures::count_run(report);
        self.span.finish(report);
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

    pub(super) fn count_run(report: &Report) {
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

    pub(super) fn count_run(_: &Report) {}
}

#[cfg(feature = "tracing")]
mod spans {
    use tracing::{Instrument, Span, field, info_span};

    use crate::report::Report;

    /// Runs the life of a container, from its build to its end, in a span.
    pub(crate) fn in_container_span<F: Future>(life: F) -> impl Future<Output = F::Output> {
        life.instrument(info_span!("container"))
    }

    #[derive(Debug)]
    pub(super) struct RunSpan(Span);

    impl RunSpan {
        pub(super) fn start() -> Self {
            Self(info_span!("run", status = field::Empty, verdict = field::Empty))
        }

        pub(super) fn finish(self, report: &Report) {
            self.0.record("status", field::display(report.status));
            self.0.record("verdict", report.verdict().name());
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod spans {
    use crate::report::Report;

    pub(crate) fn in_container_span<F: Future>(life: F) -> F {
        life
    }

    #[derive(Debug)]
    pub(super) struct RunSpan;

    impl RunSpan {
        pub(super) fn start() -> Self {
            Self
        }

        pub(super) fn finish(self, _: &Report) {}
    }
}
