//! From the description of a pool to a pool.

use std::sync::Arc;

use crate::container::ContainerBuilder;
use crate::error::{Error, Result};
use crate::limits::check_lease_memory;
use crate::observe::{Phase, Timer};

use super::handle::Pool;
use super::inner::Inner;
use super::retry::Retry;
use super::slot_task;
use super::state::State;

/// The description of a pool: from [`Pool::builder`].
///
/// ```no_run
/// # async fn example() -> cellblock::Result<()> {
/// use cellblock::{Container, Pool};
///
/// let pool = Pool::builder(Container::builder())
///     .size(8)
///     .queue(100)
///     .pin_cpus(0..8)
///     .memory(4 << 30)
///     .build()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a pool is made by `build`"]
pub struct PoolBuilder {
    container: ContainerBuilder,
    size: usize,
    queue: usize,
    cpus: Vec<u32>,
    memory: Option<u64>,
    retry: Retry,
}

impl Pool {
    /// Describes a pool of containers that `container` describes.
    ///
    /// ```no_run
    /// # async fn example() -> cellblock::Result<()> {
    /// use cellblock::{Container, Pool};
    ///
    /// let pool = Pool::builder(Container::builder()).size(2).build().await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(container: ContainerBuilder) -> PoolBuilder {
        PoolBuilder {
            container,
            size: parallelism(),
            queue: 1024,
            cpus: Vec::new(),
            memory: None,
            retry: Retry::default(),
        }
    }
}

impl PoolBuilder {
    /// Sets the number of containers. Default: the number of CPUs that this process may use.
    pub fn size(self, containers: usize) -> Self {
        Self { size: containers, ..self }
    }

    /// Sets how many callers may wait for a lease. The next caller gets
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy). Default: 1024.
    pub fn queue(self, callers: usize) -> Self {
        Self { queue: callers, ..self }
    }

    /// Pins the container in slot `i` to CPU `cpus[i % len]`. Default: not pinned.
    ///
    /// A cgroup or the CPU affinity holds the runs on that CPU. A command that sets a
    /// [CPU set](crate::Limits::cpu_set) of its own is not pinned.
    pub fn pin_cpus(self, cpus: impl IntoIterator<Item = u32>) -> Self {
        Self { cpus: cpus.into_iter().collect(), ..self }
    }

    /// Sets the memory that the runs under all leases together may be limited to, in bytes.
    /// Default: not counted.
    ///
    /// A lease that would exceed it waits, and the leases after it in the queue wait too.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Sets when work is done once more in another container. Default: [`Retry::once`].
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Builds the first container and returns the pool. The other containers follow in the
    /// background.
    ///
    /// # Errors
    /// See [`ContainerBuilder::build`]. [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)
    /// for a size of 0, or for less memory than a run needs.
    ///
    /// # Cancel safety
    /// If the future is dropped, what was built so far is destroyed in the background.
    ///
    /// # Panics
    /// See [`ContainerBuilder::build`].
    pub async fn build(self) -> Result<Pool> {
        let Self { container: builder, size, queue, cpus, memory, retry } = self;
        if size == 0 {
            return Err(Error::invalid("a pool of no containers"));
        }
        memory.map_or(Ok(()), check_lease_memory)?;
        let timer = Timer::start();
        let first = builder.build().await?;
        timer.stop(Phase::Build);
        let inner = Arc::new(Inner::new(builder, cpus, parallelism(), retry, State::new(queue, memory)));
        slot_task::start_with(&inner, 0, first);
        slot_task::resize(&inner, size);
        Ok(Pool::new(inner))
    }
}

fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
