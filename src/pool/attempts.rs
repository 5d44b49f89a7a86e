//! The attempts at one piece of work, each in another container.
//!
//! Invariant: work is started again only as the pool's `Retry` says. A container in which work
//! failed for the machine's sake is never leased again.

use crate::error::{Error, Result};
use crate::observe::{self, Event};

use super::inner::Inner;
use super::lease::Lease;
use super::request::LeaseRequest;

/// The caller loops over [`acquire`](Self::acquire), the work, and [`finish`](Self::finish).
pub(super) struct Attempts<'a> {
    inner: &'a Inner,
    request: LeaseRequest,
    /// The lease of the first attempt, if the caller has one already.
    lease: Option<Lease>,
    /// How many attempts have failed and were followed by another one.
    retries: u32,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(inner: &'a Inner, request: LeaseRequest, lease: Option<Lease>) -> Self {
        Self { inner, request, lease, retries: 0 }
    }

    /// Leases a container for the next attempt. For a patient request a lease that cannot be had
    /// counts as an attempt.
    pub(super) async fn acquire(&mut self) -> Result<Lease> {
        if let Some(lease) = self.lease.take() {
            return Ok(lease);
        }
        loop {
            match self.inner.acquire_one(self.request).await {
                Err(error) if self.request.is_patient && self.has_another(&error) => {}
                result => return result,
            }
        }
    }

    /// Ends an attempt. Returns its result, or `None` if the work is to be done once more.
    ///
    /// After a retryable error the container is discarded.
    pub(super) fn finish<T>(&mut self, lease: Lease, result: Result<T>) -> Option<Result<T>> {
        let Err(error) = &result else { return Some(result) };
        if error.is_retryable() {
            Lease::discard(lease);
        }
        if !self.has_another(error) {
            return Some(result);
        }
        // The request has waited for its turn once. A full queue does not refuse it now.
        self.request = self.request.patient();
        None
    }

    /// Asks the policy for another attempt after this error, and counts it.
    fn has_another(&mut self, error: &Error) -> bool {
        let is_allowed = self.inner.retry.allows(self.retries, error);
        if is_allowed {
            observe::count(Event::Retry);
            self.retries += 1;
        }
        is_allowed
    }
}
