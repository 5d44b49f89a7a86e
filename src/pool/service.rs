//! A pool as a [`tower_service::Service`].
//!
//! Invariant: a ready service has a lease, so waiting for readiness is waiting for the pool.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use crate::command::Command;
use crate::error::{Error, Result};
use crate::process::Output;

use super::handle::Pool;
use super::lease::Lease;

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Runs commands on a pool, as [`Pool::output`] does: from [`Pool::service`].
///
/// `poll_ready` leases a container, with the [default](Pool::lease) memory if the pool counts
/// memory. The lease ends when the command is done, or when the service is dropped. Each clone has
/// a lease of its own. After an error of `poll_ready` the service can still be used: the next call
/// tries again.
#[must_use = "a service does nothing until it is called"]
pub struct PoolService {
    pool: Pool,
    leasing: Option<BoxFuture<Lease>>,
    lease: Option<Lease>,
}

impl Pool {
    /// This pool as a tower service from [`Command`] to [`Output`]. Needs the feature `tower`.
    pub fn service(&self) -> PoolService {
        PoolService { pool: self.clone(), leasing: None, lease: None }
    }
}

impl Service<Command> for PoolService {
    type Response = Output;
    type Error = Error;
    type Future = BoxFuture<Output>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.lease.as_ref().is_none_or(|lease| lease.is_dead()) {
            let leasing = self.leasing.get_or_insert_with(|| {
                let pool = self.pool.clone();
                Box::pin(async move { pool.lease().await })
            });
            let leased = ready!(leasing.as_mut().poll(context));
            self.leasing = None;
            self.lease = Some(leased?);
        }
        Poll::Ready(Ok(()))
    }

    /// Runs the command. If the service is not ready the returned future waits for a container.
    fn call(&mut self, command: Command) -> Self::Future {
        let (pool, lease) = (self.pool.clone(), self.lease.take());
        Box::pin(async move { pool.output_in(lease, &command).await })
    }
}

impl Clone for PoolService {
    fn clone(&self) -> Self {
        self.pool.service()
    }
}

impl fmt::Debug for PoolService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolService").field("pool", &self.pool).field("lease", &self.lease).finish_non_exhaustive()
    }
}
