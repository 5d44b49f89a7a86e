//! One retry in another container.
//!
//! Invariant: work is started at most twice, and a second time only after a retryable error. A
//! container in which work failed with such an error is never leased again.

use crate::error::{Error, Result};

use super::inner::Inner;
use super::lease::Lease;
use super::request::LeaseRequest;

/// The attempts at one piece of work. The caller loops over [`acquire`](Self::acquire), the work,
/// and [`finish`](Self::finish).
pub(super) struct Retry<'a> {
    inner: &'a Inner,
    request: LeaseRequest,
    /// The lease of the first attempt, if the caller has one already.
    lease: Option<Lease>,
    is_last_attempt: bool,
}

impl<'a> Retry<'a> {
    pub(super) fn new(inner: &'a Inner, request: LeaseRequest, lease: Option<Lease>) -> Self {
        Self { inner, request, lease, is_last_attempt: false }
    }

    /// Leases a container for the next attempt. For a patient request a lease that cannot be had
    /// counts as an attempt.
    pub(super) async fn acquire(&mut self) -> Result<Lease> {
        if let Some(lease) = self.lease.take() {
            return Ok(lease);
        }
        match self.inner.acquire_one(self.request).await {
            Err(error) if error.is_retryable() && self.request.is_patient && !self.is_last_attempt => {
                self.is_last_attempt = true;
                self.inner.acquire_one(self.request).await
            }
            result => result,
        }
    }

    /// Ends an attempt. Returns its result, or `None` if the work is to be done once more.
    ///
    /// After a retryable error the container is discarded.
    pub(super) fn finish<T>(&mut self, lease: Lease, result: Result<T>) -> Option<Result<T>> {
        if !result.as_ref().is_err_and(Error::is_retryable) {
            return Some(result);
        }
        Lease::discard(lease);
        if self.is_last_attempt {
            return Some(result);
        }
        self.is_last_attempt = true;
        // The request has waited for its turn once. A full queue does not refuse it now.
        self.request = self.request.patient();
        None
    }
}
