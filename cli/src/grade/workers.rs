//! The containers that do all the work, the tools in them, and a record of what each did when.
//!
//! Invariant: a container is reached only through a [`Worker`], so the record is complete. Two
//! workers never share a container without a reset in between, because each has a lease.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cellblock::limits::{Form, Limit};
use cellblock::mount::Tmpfs;
use cellblock::pool::Conversation;
use cellblock::{Command, Container, Error, Lease, Mount, Pool};

use super::failure::Failure;
use super::limits;
use super::toolchains::Toolchains;
use crate::image::ImageOptions;

/// What a container is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Build,
    Run,
    Validate,
}

/// An activity of one container, by the time since the start.
#[derive(Clone, Debug)]
pub struct Span {
    pub container: usize,
    pub activity: Activity,
    pub label: String,
    pub from: Duration,
    pub to: Duration,
}

pub struct Workers {
    pub toolchains: Toolchains,
    pub count: usize,
    /// Whether a control group limits the memory that all processes of a run use together.
    pub has_memory_groups: bool,
    pool: Pool,
    start: Instant,
    spans: Mutex<Vec<Span>>,
}

impl Workers {
    /// Builds this many containers, over an image if the options name one.
    pub async fn start(count: usize, image: &ImageOptions) -> Result<Self, Failure> {
        // Compilers need more room than programs, and an empty tmpfs takes none.
        let tmpfs = Tmpfs::new().bytes(512 << 20);
        let builder =
            Container::builder().mount(Mount::tmpfs("/w", tmpfs)).mount(Mount::tmpfs("/tmp", tmpfs.mode(0o1777)));
        let (toolchains, builder) = match image.root().await? {
            Some(root) => {
                let builder = builder.root(root).work_dir("/w");
                let container = builder.build().await?;
                let toolchains = Toolchains::find_in(&container).await;
                container.destroy().await;
                (toolchains?, builder)
            }
            None => {
                let toolchains = Toolchains::find();
                let builder = toolchains.mount(builder);
                (toolchains, builder)
            }
        };
        let pool = Pool::builder(builder).size(count).build().await?;
        let has_memory_groups = has_memory_groups(&pool).await?;
        Ok(Self { toolchains, count, has_memory_groups, pool, start: Instant::now(), spans: Mutex::default() })
    }

    /// Waits for a free container.
    pub async fn acquire(&self, activity: Activity, label: &str) -> Result<Worker<'_>, Failure> {
        Ok(self.worker(self.pool.lease().await?, activity, label))
    }

    /// Waits for two containers: one for a submission, one for the validator that it talks to.
    pub async fn acquire_pair(&self, label: &str) -> Result<(Worker<'_>, Worker<'_>), Failure> {
        let (submission, validator) = self.pool.lease_pair().await?;
        Ok((self.worker(submission, Activity::Run, label), self.worker(validator, Activity::Validate, label)))
    }

    /// The finished activities, in the order of their ends.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Destroys all containers, with the programs that still run in them.
    pub async fn stop(&self) {
        self.pool.shutdown(Duration::ZERO).await;
    }

    fn worker(&self, lease: Lease, activity: Activity, label: &str) -> Worker<'_> {
        Worker { lease, workers: self, activity, label: label.into(), from: self.start.elapsed() }
    }
}

/// A container in use. Dropping it records the activity and releases the container.
pub struct Worker<'a> {
    lease: Lease,
    workers: &'a Workers,
    activity: Activity,
    label: String,
    from: Duration,
}

impl Worker<'_> {
    /// Runs a program here and one in another container, with crossed streams.
    pub async fn converse(
        &self,
        command: &Command,
        other: &Self,
        other_command: &Command,
    ) -> Result<Conversation, Error> {
        self.lease.converse(command, &other.lease, other_command).await
    }
}

impl Deref for Worker<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.lease
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let (container, activity, label) = (self.lease.slot(), self.activity, std::mem::take(&mut self.label));
        let span = Span { container, activity, label, from: self.from, to: self.workers.start.elapsed() };
        self.workers.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }
}

/// Tries something, and tries it once more after a failure. A retry gets another container.
pub async fn retry_once<T>(attempt: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    match attempt().await {
        Err(_) => attempt().await,
        done => done,
    }
}

/// Runs a program and looks at the form in which its memory was limited.
async fn has_memory_groups(pool: &Pool) -> Result<bool, Failure> {
    let report = pool.lease().await?.run(Command::new("/bin/sh").args(["-c", ":"]).limits(limits::trusted())).await?;
    let form = report.limit(Limit::Memory).map(|held| held.form);
    Ok(matches!(form, Some(Form::CgroupV1 | Form::CgroupV2)))
}
