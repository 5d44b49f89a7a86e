//! What is done once more in another container, and what is not.
//!
//! Invariant: work is begun twice at most, and a second time only where the first failed for the machine's sake. A container
//! in which work failed so is never lent again.

use crate::error::{Error, Result};

use super::{Lease, LeaseRequest, Pool};

pub(super) struct Retry<'a> {
    pool: &'a Pool,
    want: LeaseRequest,
    /// A lease that is at hand.
    lease: Option<Lease>,
    is_last: bool,
}

impl<'a> Retry<'a> {
    pub(super) fn new(pool: &'a Pool, want: LeaseRequest) -> Self {
        Self::starting_in(None, pool, want)
    }

    pub(super) fn starting_in(lease: Option<Lease>, pool: &'a Pool, want: LeaseRequest) -> Self {
        Self { pool, want, lease, is_last: false }
    }

    /// The container for the next attempt. That there is none was an attempt too, for those who are patient.
    pub(super) async fn lease(&mut self) -> Result<Lease> {
        if let Some(lease) = self.lease.take() {
            return Ok(lease);
        }
        match self.pool.one(self.want).await {
            Err(error) if error.is_retryable() && self.want.is_patient() && !self.is_last => {
                self.is_last = true;
                self.pool.one(self.want).await
            }
            result => result,
        }
    }

    /// Whether this is the result, after an attempt under this lease.
    pub(super) fn are_over<T>(&mut self, lease: Lease, result: &Result<T>) -> bool {
        if !result.as_ref().is_err_and(Error::is_retryable) {
            return true;
        }
        lease.discard();
        // It has waited for its turn once, so a full queue is no reason to refuse it.
        self.want = self.want.patient();
        std::mem::replace(&mut self.is_last, true)
    }
}
