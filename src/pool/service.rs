//! A pool as a [`tower_service::Service`].
//!
//! Invariant: a service that said it is ready has a container in hand, so whoever waits for that waits for the pool.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use crate::command::Command;
use crate::error::{Error, Result};
use crate::process::Output;

use super::{Lease, Pool};

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Runs commands on a pool, as [`Pool::output`] does: from [`Pool::service`].
///
/// It is ready when it has leased a container, of the [default](Pool::lease) memory where the pool counts that, and
/// returns that when it is dropped or the command is done. Each clone leases for itself. An error of
/// `poll_ready` does not end it: the next may go well.
pub struct PoolService {
    pool: Pool,
    leasing: Option<Boxed<Lease>>,
    lease: Option<Lease>,
}

impl Pool {
    /// This pool as a service that takes commands and gives outputs. Needs the feature `tower`.
    pub fn service(&self) -> PoolService {
        PoolService { pool: self.clone(), leasing: None, lease: None }
    }
}

impl Service<Command> for PoolService {
    type Response = Output;
    type Error = Error;
    type Future = Boxed<Output>;

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

    /// Without being ready it waits for a container itself.
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
