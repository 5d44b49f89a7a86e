//! What the containers of a pool are doing.

/// What the containers of a pool are doing, and how many callers wait: from
/// [`Pool::status`](crate::Pool::status).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The number of containers that the pool is set to have.
    pub size: usize,
    /// Containers that can be leased at once.
    pub ready: usize,
    /// Containers that are leased.
    pub leased: usize,
    /// Containers whose lease is over, and that are being reset or destroyed.
    pub returning: usize,
    /// Containers that are being built.
    pub building: usize,
    /// Containers whose last build failed. The pool retries.
    pub broken: usize,
    /// Callers that wait for a lease.
    pub waiting: usize,
    /// Bytes of memory that no lease has, if the pool [counts
    /// memory](crate::pool::PoolBuilder::memory).
    pub memory_left: Option<u64>,
}
