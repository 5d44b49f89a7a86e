//! How long the init may owe a reply without sending anything.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Error;

/// The end of a limit that does not fit the clock.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pub(super) struct ReplyWatchdog {
    limit: Duration,
    /// Since when the init has owed a reply and sent nothing.
    since: Option<Instant>,
    /// Set again only when it fires: a busy container does not pay for it at every request.
    alarm: Pin<Box<Sleep>>,
}

impl ReplyWatchdog {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, alarm: Box::pin(sleep_until(Instant::now())) }
    }

    /// Sets whether the init owes a reply. The clock of an older debt keeps running.
    pub(super) fn set_owed(&mut self, is_owed: bool) {
        self.since = if is_owed { self.since.or_else(|| Some(Instant::now())) } else { None };
    }

    /// Starts the clock again: the init has sent something.
    pub(super) fn reset(&mut self) {
        self.since = None;
    }

    /// Resolves when the limit is over. Dropping the future loses nothing.
    pub(super) async fn expired(&mut self) -> Error {
        let Some(since) = self.since else { return pending().await };
        let end = since.checked_add(self.limit).unwrap_or_else(|| Instant::now() + FAR_FUTURE);
        loop {
            self.alarm.as_mut().await;
            if Instant::now() >= end {
                return Error::lost(format!("the init owed an answer for {:?}", self.limit));
            }
            self.alarm.as_mut().reset(end);
        }
    }
}
