//! A run, as metrics and traces see it.

use crate::report::Report;

use super::figures::{Phase, Timer, count_run};
use super::spans::RunSpan;

/// The metrics and the span of a run, from the moment at which it is sent to the init.
#[derive(Debug)]
pub(crate) struct WatchedRun {
    timer: Timer,
    span: RunSpan,
}

impl WatchedRun {
    pub(crate) fn start(span: RunSpan) -> Self {
        Self { timer: Timer::start(), span }
    }

    pub(crate) fn finish(self, report: &Report) {
        self.timer.stop(Phase::Run);
        count_run(report);
        self.span.finish(report);
    }
}
