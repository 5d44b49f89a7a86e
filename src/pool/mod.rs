//! Containers on loan: built ahead, lent first come, first served, reset when they come back, replaced when they die.
//!
//! Invariant: each container is one keeper's, a task that builds it, offers it, waits for it to come back and does all that
//! again. What is lent, to whom and who waits is decided under one lock, in [`State`], and nothing is awaited there.

mod converse;
mod lease;
mod retry;
#[cfg(feature = "tower")]
mod service;
mod slot_task;
mod state;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::command::Command;
use crate::container::ContainerBuilder;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::observe::{self, Timer};
use crate::process::Output;
use crate::report::Report;

pub use converse::{Conversation, Side};
pub use lease::Lease;
use retry::Retry;
#[cfg(feature = "tower")]
pub use service::PoolService;
pub use state::PoolStatus;
use state::{Acquire, LeaseRequest, State};
pub use stream::{Job, Results};

/// Containers that are kept ready and lent.
///
/// A handle is cheap to clone and works from any task. When the last one is dropped the pool is
/// [shut down](Self::shutdown) in the background, without a deadline for what is lent.
///
/// ```no_run
/// # async fn example() -> cellblock::Result<()> {
/// use cellblock::{Command, Container, Pool};
///
/// let pool = Pool::builder(Container::builder()).size(4).build().await?;
/// let lease = pool.lease().await?;
/// lease.write("input", "6 7\n", 0o644).await?;
/// let output = lease.output(Command::new("cat").arg("input")).await?;
/// drop(lease); // the container is reset, and lent again
/// pool.shutdown(std::time::Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Pool(Arc<Front>);

/// What the handles share. The keepers have the rest, so this is dropped with the last handle.
#[derive(Debug)]
struct Front(Arc<Inner>);

/// What the handles and the keepers share.
#[derive(Debug)]
struct Inner {
    builder: ContainerBuilder,
    cpus: Vec<u32>,
    state: Mutex<State>,
    /// Rings when the size, the deadline or the number of keepers has changed.
    bell: watch::Sender<()>,
    /// How many containers are built at once: all of them together would be too slow for a build's deadline.
    builds: Semaphore,
    runtime: Handle,
}

/// Describes a pool; from [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolBuilder {
    container: ContainerBuilder,
    size: usize,
    queue: usize,
    cpus: Vec<u32>,
    memory: Option<u64>,
}

impl PoolBuilder {
    /// Sets how many containers there are. Default: as many as this process may use CPUs.
    pub fn size(self, containers: usize) -> Self {
        Self { size: containers, ..self }
    }

    /// Sets how many may wait for a lease; beyond that the pool is [busy](ErrorKind::Busy). Default: 1024.
    pub fn queue(self, waiting: usize) -> Self {
        Self { queue: waiting, ..self }
    }

    /// Pins container `i` to `cpus[i % len]`: its runs are on that CPU, held by a cgroup or by the processes' affinity,
    /// except those of a command that sets a CPU set itself. Default: not pinned.
    pub fn pin_cpus(self, cpus: impl IntoIterator<Item = u32>) -> Self {
        Self { cpus: cpus.into_iter().collect(), ..self }
    }

    /// Sets how many bytes of memory the runs under all leases may be limited to together. A lease that would be too much
    /// waits, and those after it wait for it. Default: not counted.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Builds the first container, and gives the pool; the others follow in the background.
    ///
    /// # Errors
    /// As [`ContainerBuilder::build`]; [`ErrorKind::InvalidInput`] for a size of 0.
    ///
    /// # Cancel safety
    /// Dropping the future destroys what was built so far, in the background.
    ///
    /// # Panics
    /// As [`ContainerBuilder::build`].
    pub async fn build(self) -> Result<Pool> {
        let Self { container: builder, size, queue, cpus, memory } = self;
        if size == 0 {
            return Err(Error::invalid("a pool of no containers"));
        }
        let timer = Timer::start();
        let first = builder.build().await?;
        timer.stop(observe::Phase::Build);
        let inner = Arc::new(Inner {
            builder,
            cpus,
            state: Mutex::new(State::new(queue, memory)),
            bell: watch::Sender::new(()),
            builds: Semaphore::new(parallelism()),
            runtime: Handle::current(),
        });
        inner.state().enter(0);
        slot_task::start(&inner, 0, Some(first));
        inner.resize(size);
        Ok(Pool(Arc::new(Front(inner))))
    }
}

impl Pool {
    /// What a pool is made of: containers as this builder describes them.
    pub fn builder(container: ContainerBuilder) -> PoolBuilder {
        PoolBuilder { container, size: parallelism(), queue: 1024, cpus: Vec::new(), memory: None }
    }

    /// Leases a container, first come, first served. Where the pool counts [memory](PoolBuilder::memory) the lease is for
    /// runs of up to 1 GiB each, the default of a run, or all that the pool has.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] at once where the queue is full; [`ErrorKind::Closed`] where the pool is shut down, also while
    /// this waits. Why the last container could not be built, as [`ContainerBuilder::build`] tells it, where none is alive.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the queue up, and returns what it was just given.
    pub async fn lease(&self) -> Result<Lease> {
        self.one(self.default_want()).await
    }

    /// Leases a container for runs whose memory is limited to this many bytes each, or less: more is refused then.
    ///
    /// # Errors
    /// As [`lease`](Self::lease); [`ErrorKind::InvalidInput`] for more than the pool has.
    ///
    /// # Cancel safety
    /// As [`lease`](Self::lease).
    pub async fn lease_with_memory(&self, bytes: u64) -> Result<Lease> {
        self.one(LeaseRequest::one(bytes)).await
    }

    /// Leases a container, and waits for it no longer than this.
    ///
    /// # Errors
    /// As [`lease`](Self::lease); [`ErrorKind::Timeout`] where none was free in time.
    ///
    /// # Cancel safety
    /// As [`lease`](Self::lease).
    pub async fn lease_within(&self, patience: Duration) -> Result<Lease> {
        let late = |_| {
            let waiting = self.status().waiting;
            let detail = format!("none was free within {patience:?}, and {waiting} others wait");
            Err(Error::new(ErrorKind::Timeout, Step::Lease).detail(detail))
        };
        tokio::time::timeout(patience, self.lease()).await.unwrap_or_else(late)
    }

    /// Leases two containers at once: whoever waits for two never holds one meanwhile, so no two of them wait for each
    /// other.
    ///
    /// # Errors
    /// As [`lease`](Self::lease); [`ErrorKind::InvalidInput`] in a pool of one.
    ///
    /// # Cancel safety
    /// As [`lease`](Self::lease).
    pub async fn lease_pair(&self) -> Result<(Lease, Lease)> {
        self.pair(self.default_want().times(2)).await
    }

    /// Runs a program in a container of the pool, as [`Container::run`](crate::Container::run) does, and returns that. Where the failure was the
    /// machine's ([`Error::is_retryable`]) the container is replaced, and the program run once more in another.
    ///
    /// # Errors
    /// As [`lease`](Self::lease) and [`Container::run`](crate::Container::run).
    ///
    /// # Cancel safety
    /// Dropping the future kills the program, and returns the container.
    pub async fn run(&self, command: &Command) -> Result<Report> {
        let mut tries = Retry::new(self, self.want_of(command));
        loop {
            let lease = tries.lease().await?;
            let result = lease.run(command).await;
            if tries.are_over(lease, &result) {
                return result;
            }
        }
    }

    /// Runs a program as [`run`](Self::run) does, and collects its outputs as [`Container::output`](crate::Container::output) does.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn output(&self, command: &Command) -> Result<Output> {
        self.output_in(None, command).await
    }

    /// Changes how many containers there are. More are built in the background; of fewer, those that are lent go when
    /// they come back. Who waits for more at once than there will be is told so. A pool that is shut down stays so.
    pub fn resize(&self, containers: usize) {
        self.0.0.resize(containers);
    }

    /// What the pool's containers are doing now.
    pub fn status(&self) -> PoolStatus {
        self.0.0.state().status()
    }

    /// Shuts the pool down: who waits for a lease is told ([`ErrorKind::Closed`]), and nothing is lent any more. What is
    /// lent may be used for this long; then it is destroyed, and its holder's calls say so. Returns when every container
    /// is destroyed.
    ///
    /// # Cancel safety
    /// All of it begins at the first poll and is carried out, the deadline included, whether or not the future is dropped.
    pub async fn shutdown(&self, patience: Duration) {
        let inner = &self.0.0;
        let mut bell = inner.bell.subscribe();
        inner.close(Instant::now().checked_add(patience));
        while !inner.state().is_deserted() {
            // It lives as long as this handle.
            bell.changed().await.ok();
        }
    }

    /// Its first attempt is under this lease, if there is one already.
    async fn output_in(&self, lease: Option<Lease>, command: &Command) -> Result<Output> {
        let mut tries = Retry::starting_in(lease, self, self.want_of(command));
        loop {
            let lease = tries.lease().await?;
            let result = lease.output(command).await;
            if tries.are_over(lease, &result) {
                return result;
            }
        }
    }

    fn default_want(&self) -> LeaseRequest {
        self.0.0.state().default_want()
    }

    fn want_of(&self, command: &Command) -> LeaseRequest {
        LeaseRequest::one(command.limits.memory_or_default())
    }

    async fn one(&self, want: LeaseRequest) -> Result<Lease> {
        let lease = self.ask(want).await?.pop();
        lease.ok_or_else(|| Error::lost("a lease of nothing"))
    }

    async fn pair(&self, want: LeaseRequest) -> Result<(Lease, Lease)> {
        match <[Lease; 2]>::try_from(self.ask(want).await?) {
            Ok([first, second]) => Ok((first, second)),
            Err(_) => Err(Error::lost("a lease of nothing")),
        }
    }

    async fn ask(&self, want: LeaseRequest) -> Result<Vec<Lease>> {
        let inner = &self.0.0;
        let timer = Timer::start();
        let asked = inner.state().ask(want);
        let leases = match asked? {
            Acquire::Now(leases) => leases,
            Acquire::Later(ticket, leases) => {
                let _place = Place { inner, ticket };
                // A sender is dropped with the state alone.
                leases.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, Step::Lease)))?
            }
        };
        timer.stop(observe::Phase::Wait);
        Ok(leases)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked had not left anything half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(self: &Arc<Self>, size: usize) {
        let new = self.state().resize(size);
        self.bell.send_replace(());
        new.into_iter().for_each(|slot| slot_task::start(self, slot, None));
    }

    /// From now on nothing is lent, and from then on nothing is left to those who have it.
    fn close(&self, kill_at: Option<Instant>) {
        self.state().close(kill_at);
        self.bell.send_replace(());
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.0.close(None);
    }
}

/// A place in the queue, which is given up with the future that waits there.
struct Place<'a> {
    inner: &'a Inner,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inner.state().give_up(self.ticket);
    }
}

fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
