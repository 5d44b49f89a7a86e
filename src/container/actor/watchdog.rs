//! For how long the init may owe an answer and say nothing.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Error;

/// As far off as a clock is asked to look.
const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pub(super) struct ReplyWatchdog {
    limit: Duration,
    /// Since when it owes an answer and has said nothing.
    since: Option<Instant>,
    /// Set again only when it rings: a busy container does not pay for it at every request.
    alarm: Pin<Box<Sleep>>,
}

impl ReplyWatchdog {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, alarm: Box::pin(sleep_until(Instant::now())) }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Takes note of whether an answer is owed. The clock of an older debt goes on.
    pub(super) fn note(&mut self, is_owed: bool) {
        self.since = if is_owed { self.since.or_else(|| Some(Instant::now())) } else { None };
    }

    /// The init has said something.
    pub(super) fn renew(&mut self) {
        self.since = None;
    }

    /// Resolves when it is at its end. Dropping the future loses nothing.
    pub(super) async fn end(&mut self) -> Error {
        let Some(since) = self.since else { return pending().await };
        // One that outlasts the clock has no end.
        let end = since.checked_add(self.limit).unwrap_or_else(|| Instant::now() + YEARS);
        loop {
            self.alarm.as_mut().await;
            if Instant::now() >= end {
                return Error::lost(format!("the init owed an answer for {:?}", self.limit));
            }
            self.alarm.as_mut().reset(end);
        }
    }
}
