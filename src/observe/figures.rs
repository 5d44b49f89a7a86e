//! Counters, gauges and histograms.
//!
//! Invariant: this file has the only list of their names, units and descriptions. Gauges change by
//! one, so that several pools add up.

use crate::report::Report;

/// An event that a counter counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Lease,
    Busy,
    Replaced,
    Retry,
    FailedBuild,
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

/// What a gauge counts: the containers of a pool in a state, and the callers that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Ready,
    Leased,
    Returning,
    Building,
    Broken,
    Waiting,
}

#[cfg(feature = "metrics")]
pub(crate) use enabled::{Counted, Timer, count, count_run, describe};

#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{Counted, Timer, count, count_run, describe};

#[cfg(feature = "metrics")]
mod enabled {
    use std::time::Instant;

    use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

    use super::{Event, Level, Phase, Report};

    const LEASES: &str = "cellblock_leases_total";
    const BUSY: &str = "cellblock_busy_total";
    const REPLACED: &str = "cellblock_replaced_total";
    const RETRIES: &str = "cellblock_retries_total";
    const FAILED_BUILDS: &str = "cellblock_failed_builds_total";
    const RUNS: &str = "cellblock_runs_total";
    const SECONDS: &str = "cellblock_seconds";
    const CONTAINERS: &str = "cellblock_containers";
    const WAITING: &str = "cellblock_waiting";

    /// Tells the recorder what the metrics mean. A recorder may be installed late, so this is
    /// called at every build.
    pub(crate) fn describe() {
        describe_counter!(LEASES, Unit::Count, "Leases of containers.");
        describe_counter!(BUSY, Unit::Count, "Leases refused because the queue was full.");
        describe_counter!(REPLACED, Unit::Count, "Containers that were destroyed and replaced.");
        describe_counter!(RETRIES, Unit::Count, "Work that was done once more in another container.");
        describe_counter!(FAILED_BUILDS, Unit::Count, "Builds of a pool's containers that failed.");
        describe_counter!(RUNS, Unit::Count, "Runs that ended with a report, by verdict.");
        describe_histogram!(SECONDS, Unit::Seconds, "Durations, by phase: wait, lease, reset, build, run.");
        describe_gauge!(CONTAINERS, Unit::Count, "Containers of pools, by state.");
        describe_gauge!(WAITING, Unit::Count, "Callers that wait for a lease.");
    }

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
            histogram!(SECONDS, "phase" => phase).record(self.0.elapsed());
        }
    }

    pub(crate) fn count(event: Event) {
        let name = match event {
            Event::Lease => LEASES,
            Event::Busy => BUSY,
            Event::Replaced => REPLACED,
            Event::Retry => RETRIES,
            Event::FailedBuild => FAILED_BUILDS,
        };
        counter!(name).increment(1);
    }

    pub(crate) fn count_run(report: &Report) {
        counter!(RUNS, "verdict" => report.verdict().name()).increment(1);
    }

    /// One more at a level, until it is dropped.
    #[derive(Debug)]
    pub(crate) struct Counted(Level);

    impl Counted {
        pub(crate) fn at(level: Level) -> Self {
            gauge_of(level).increment(1.0);
            Self(level)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            gauge_of(self.0).decrement(1.0);
        }
    }

    fn gauge_of(level: Level) -> metrics::Gauge {
        let state = match level {
            Level::Ready => "ready",
            Level::Leased => "leased",
            Level::Returning => "returning",
            Level::Building => "building",
            Level::Broken => "broken",
            Level::Waiting => return gauge!(WAITING),
        };
        gauge!(CONTAINERS, "state" => state)
    }
}

#[cfg(not(feature = "metrics"))]
mod disabled {
    use super::{Event, Level, Phase, Report};

    pub(crate) fn describe() {}

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn start() -> Self {
            Self
        }

        pub(crate) fn stop(self, _: Phase) {}
    }

    pub(crate) fn count(_: Event) {}

    pub(crate) fn count_run(_: &Report) {}

    #[derive(Debug)]
    pub(crate) struct Counted;

    impl Counted {
        pub(crate) fn at(_: Level) -> Self {
            Self
        }
    }
}
