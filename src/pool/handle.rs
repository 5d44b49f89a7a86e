//! The handle of a pool.
//!
//! Invariant: the pool is closed when its last handle is dropped.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::process::Output;
use crate::report::Report;

use super::attempts::Attempts;
use super::inner::Inner;
use super::lease::Lease;
use super::request::LeaseRequest;
use super::slot_task;
use super::status::PoolStatus;

/// A handle to a pool of ready containers.
///
/// A handle is cheap to clone and works from any task. When the last handle is dropped the pool
/// [shuts down](Self::shutdown) in the background, without a deadline for the leases.
///
/// ```no_run
/// # async fn example() -> cellblock::Result<()> {
/// use cellblock::{Command, Container, Pool};
///
/// let pool = Pool::builder(Container::builder()).size(4).build().await?;
/// let lease = pool.lease().await?;
/// lease.write("input", "6 7\n").await?;
/// let output = lease.output(Command::new("cat").arg("input")).await?;
/// drop(lease); // the container is reset and leased again
/// pool.shutdown(std::time::Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    pub(super) inner: Arc<Inner>,
    _close: Arc<CloseOnDrop>,
}

/// Closes the pool. Only handles share it, so the last handle drops it. The slot tasks share
/// [`Inner`] alone.
#[derive(Debug)]
struct CloseOnDrop {
    inner: Arc<Inner>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.inner.close(None);
    }
}

impl Pool {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { _close: Arc::new(CloseOnDrop { inner: Arc::clone(&inner) }), inner }
    }

    /// Leases a container, first come, first served.
    ///
    /// If the pool counts [memory](crate::pool::PoolBuilder::memory), the lease is for runs of up
    /// to 1 GiB each, which is the default of a run, or of up to all that the pool has.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] at once if the queue is full. [`ErrorKind::Closed`] if the pool is shut
    /// down, also while this waits. If no container is alive and the last build of each failed, the
    /// error of [`ContainerBuilder::build`](crate::ContainerBuilder::build).
    ///
    /// # Cancel safety
    /// If the future is dropped it gives up its place in the queue, and returns a container that it
    /// was just given.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: cellblock::Pool) -> cellblock::Result<()> {
    /// use cellblock::Command;
    ///
    /// let lease = pool.lease().await?;
    /// lease.write("main.py", "print(6 * 7)").await?;
    /// let output = lease.output(Command::new("python3").arg("main.py")).await?;
    /// assert_eq!(output.stdout, b"42\n");
    /// # Ok(()) }
    /// ```
    pub async fn lease(&self) -> Result<Lease> {
        self.inner.acquire_one(LeaseRequest::one(self.default_memory())).await
    }

    /// Leases a container for runs with a memory limit of up to `bytes` each. A run with a higher
    /// limit is refused.
    ///
    /// # Errors
    /// See [`lease`](Self::lease). [`ErrorKind::InvalidInput`] for more than the pool has.
    ///
    /// # Cancel safety
    /// See [`lease`](Self::lease).
    pub async fn lease_with_memory(&self, bytes: u64) -> Result<Lease> {
        self.inner.acquire_one(LeaseRequest::one(bytes)).await
    }

    /// Leases a container, and waits for it no longer than `timeout`.
    ///
    /// # Errors
    /// See [`lease`](Self::lease). [`ErrorKind::Timeout`] if no container was free in time.
    ///
    /// # Cancel safety
    /// See [`lease`](Self::lease).
    pub async fn lease_within(&self, timeout: Duration) -> Result<Lease> {
        match tokio::time::timeout(timeout, self.lease()).await {
            Ok(result) => result,
            Err(_) => {
                let waiting = self.status().waiting;
                let detail = format!("none was free within {timeout:?}, and {waiting} others wait");
                Err(Error::new(ErrorKind::Timeout, Step::Lease).detail(detail))
            }
        }
    }

    /// Leases two containers at once.
    ///
    /// A caller that waits for two holds none meanwhile, so two such callers never wait for each
    /// other.
    ///
    /// # Errors
    /// See [`lease`](Self::lease). [`ErrorKind::InvalidInput`] in a pool of one container.
    ///
    /// # Cancel safety
    /// See [`lease`](Self::lease).
    pub async fn lease_pair(&self) -> Result<(Lease, Lease)> {
        self.inner.acquire_pair(LeaseRequest::pair(self.default_memory())).await
    }

    /// Runs a program in a container of the pool. See [`Container::run`](crate::Container::run).
    ///
    /// After a [retryable](Error::is_retryable) error the container is replaced, and the program
    /// runs once more in another one, or as the pool's [`Retry`](crate::pool::Retry) says.
    ///
    /// # Errors
    /// See [`lease`](Self::lease) and [`Container::run`](crate::Container::run).
    ///
    /// # Cancel safety
    /// If the future is dropped the program is killed and the container returned.
    pub async fn run(&self, command: impl Borrow<Command>) -> Result<Report> {
        let command = command.borrow();
        let mut attempts = Attempts::new(&self.inner, request_for(command), None);
        loop {
            let lease = attempts.acquire().await?;
            let result = lease.run(command).await;
            if let Some(result) = attempts.finish(lease, result) {
                return result;
            }
        }
    }

    /// Runs a program in a container of the pool and collects its outputs. See
    /// [`Container::output`](crate::Container::output).
    ///
    /// After a [retryable](Error::is_retryable) error the container is replaced, and the program
    /// runs once more in another one, or as the pool's [`Retry`](crate::pool::Retry) says.
    ///
    /// # Errors
    /// See [`lease`](Self::lease) and [`Container::output`](crate::Container::output).
    ///
    /// # Cancel safety
    /// If the future is dropped the program is killed and the container returned.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: cellblock::Pool) -> cellblock::Result<()> {
    /// use cellblock::{Command, Verdict};
    ///
    /// let output = pool.output(Command::new("sh").args(["-c", "echo $((6 * 7))"])).await?;
    /// assert_eq!(output.report.verdict(), Verdict::Ok);
    /// assert_eq!(output.stdout, b"42\n");
    /// # Ok(()) }
    /// ```
    pub async fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.output_in(None, command.borrow()).await
    }

    /// As [`output`](Self::output). The first attempt uses `lease`, if there is one.
    pub(super) async fn output_in(&self, lease: Option<Lease>, command: &Command) -> Result<Output> {
        let mut attempts = Attempts::new(&self.inner, request_for(command), lease);
        loop {
            let lease = attempts.acquire().await?;
            let result = lease.output(command).await;
            if let Some(result) = attempts.finish(lease, result) {
                return result;
            }
        }
    }

    /// Changes the number of containers.
    ///
    /// New containers are built in the background. If there are to be fewer, leased containers are
    /// destroyed after their lease. A caller that waits for more containers at once than there will
    /// be gets [`ErrorKind::InvalidInput`]. A pool that is shut down stays shut down.
    pub fn resize(&self, containers: usize) {
        slot_task::resize(&self.inner, containers);
    }

    /// What the containers of the pool are doing now.
    ///
    /// ```no_run
    /// # fn example(pool: cellblock::Pool) {
    /// let status = pool.status();
    /// println!("{} of {} leased, {} wait", status.leased, status.size, status.waiting);
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.inner.state().status()
    }

    /// Shuts the pool down, and returns when every container is destroyed.
    ///
    /// Leasing stops at once, and waiting callers get [`ErrorKind::Closed`]. Leases may be used for
    /// `grace`. Then their containers are destroyed, and calls on them give
    /// [`ErrorKind::Destroyed`].
    ///
    /// # Cancel safety
    /// The shutdown starts at the first poll. It is carried out, the deadline included, even if the
    /// future is dropped.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: cellblock::Pool) {
    /// use std::time::Duration;
    ///
    /// pool.shutdown(Duration::from_secs(5)).await;
    /// # }
    /// ```
    pub async fn shutdown(&self, grace: Duration) {
        let mut changes = self.inner.subscribe();
        self.inner.close(Instant::now().checked_add(grace));
        while self.inner.state().has_slots() {
            // The sender lives as long as this handle.
            changes.changed().await.ok();
        }
    }

    pub(super) fn default_memory(&self) -> u64 {
        self.inner.state().default_memory()
    }
}

fn request_for(command: &Command) -> LeaseRequest {
    LeaseRequest::one(command.limits.memory_or_default())
}
