//! The bench that all work is done on: the containers, the tools, and a record of who did what when.
//!
//! Invariant: a container is only had through [`Bench::take`], so the record has all that was done.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cellblock::{
    Command, Container, Lease, Mount, Pool,
    limits::{Form, Limit},
    mount::Tmpfs,
};
use serde::Serialize;

use super::languages::Toolbox;
use super::{Failure, limits};

/// What a container is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    Build,
    Run,
    Validate,
}

/// What one container did for a while.
#[derive(Clone, Debug)]
pub struct Span {
    pub container: usize,
    pub activity: Activity,
    pub label: String,
    pub from: Duration,
    pub to: Duration,
}

pub struct Bench {
    pub toolbox: Toolbox,
    pub size: usize,
    /// Whether memory is limited by what a run uses, all its processes together.
    pub counts_memory: bool,
    pool: Pool,
    start: Instant,
    spans: Mutex<Vec<Span>>,
}

impl Bench {
    /// Builds this many containers.
    pub async fn set_up(size: usize) -> Result<Self, Failure> {
        let toolbox = Toolbox::of_this_machine();
        // Compilers need more room than programs; an empty tmpfs takes none.
        let room = Tmpfs::new().bytes(512 << 20);
        let recipe =
            Container::builder().mount(Mount::tmpfs("/w", room)).mount(Mount::tmpfs("/tmp", room.mode(0o1777)));
        let pool = Pool::builder(toolbox.furnish(recipe)).size(size).build().await?;
        let counts_memory = counts_memory(&pool).await?;
        let (start, spans) = (Instant::now(), Mutex::default());
        Ok(Self { toolbox, size, counts_memory, pool, start, spans })
    }

    /// The next free container, for as long as the seat is kept.
    pub async fn take(&self, activity: Activity, label: &str) -> Result<Seat<'_>, Failure> {
        Ok(self.seat(self.pool.lease().await?, activity, label))
    }

    /// Two containers, one to run a submission in and one for what it talks to.
    pub async fn take_two(&self, label: &str) -> Result<(Seat<'_>, Seat<'_>), Failure> {
        let (one, other) = self.pool.lease_pair().await?;
        Ok((self.seat(one, Activity::Run, label), self.seat(other, Activity::Validate, label)))
    }

    fn seat(&self, lease: Lease, activity: Activity, label: &str) -> Seat<'_> {
        Seat { lease, bench: self, activity, label: label.into(), from: self.start.elapsed() }
    }

    /// What was done so far, in the order in which it ended.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub async fn clear(&self) {
        // Whatever still runs is not wanted any more.
        self.pool.shutdown(Duration::ZERO).await;
    }
}

/// Does something in a container, and once more, in another, where the machine failed it.
pub async fn twice<T>(attempt: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    match attempt().await {
        Err(_) => attempt().await,
        done => done,
    }
}

/// What held a run's limit of memory says what will hold the others'.
async fn counts_memory(pool: &Pool) -> Result<bool, Failure> {
    let report = pool.lease().await?.run(Command::new("/bin/true").limits(limits::trusted())).await?;
    let form = report.limit(Limit::Memory).map(|held| held.form);
    Ok(matches!(form, Some(Form::CgroupV1 | Form::CgroupV2)))
}

/// A container that is in use, and will say so.
pub struct Seat<'a> {
    lease: Lease,
    bench: &'a Bench,
    activity: Activity,
    label: String,
    from: Duration,
}

impl Deref for Seat<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.lease
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let (container, activity, label) = (self.lease.slot(), self.activity, std::mem::take(&mut self.label));
        let span = Span { container, activity, label, from: self.from, to: self.bench.start.elapsed() };
        self.bench.spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }
}
