//! Jobs in, results out.
//!
//! Invariant: each job that was taken from the stream of jobs gives exactly one result, unless the results are dropped.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::error::Result;
use crate::limits::Limits;

use super::{Lease, LeaseRequest, Pool, Retry};

/// How many results that came too early are kept for their turn, beside one of each container.
const EARLY: usize = 1024;

/// Some work to be done in a container of a pool, under a key that its result comes with.
///
/// ```
/// use cellblock::{Command, pool::Job, Lease};
///
/// let job = Job::new("hello", async |lease: &Lease| {
///     lease.write("input", "hello", 0o644).await?;
///     lease.output(Command::new("cat").arg("input")).await
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Job<K, F> {
    key: K,
    work: F,
    memory: Option<u64>,
}

impl<K, F> Job<K, F> {
    /// Work that is done once and, where it failed for the machine's sake, once more in another container.
    pub fn new(key: K, work: F) -> Self {
        Self { key, work, memory: None }
    }

    /// Sets to how many bytes of memory the runs of this job are limited at most, for a pool that
    /// [counts](super::PoolBuilder::memory) them. Default: 1 GiB, or what the pool has.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Sets [`memory`](Self::memory) to that of these limits.
    pub fn limits(self, limits: &Limits) -> Self {
        self.memory(limits.memory_or_default())
    }
}

impl Pool {
    /// Does jobs, as many at once as the pool has containers, and gives their results as they finish or, with
    /// [`in_order`](Results::in_order), in the order of the jobs. No job is taken before there is room for it, and none is
    /// refused for a full queue. A job whose error [is retryable](crate::Error::is_retryable) is done once more in another
    /// container; its result is that of the second time.
    ///
    /// # Cancel safety
    /// Nothing is done but while the results are polled. Dropping them kills what runs and returns the containers; jobs that
    /// were not taken stay in their stream, which may be given by reference.
    pub fn stream<S, K, F, T>(
        &self,
        jobs: S,
    ) -> Results<impl Stream<Item = impl Future<Output = (usize, (K, Result<T>))>>>
    where
        S: Stream<Item = Job<K, F>>,
        F: AsyncFn(&Lease) -> Result<T>,
    {
        let pool = self.clone();
        let start = move |(number, Job { key, work, memory }): (usize, Job<K, F>)| {
            let pool = pool.clone();
            async move {
                let want = memory.map_or_else(|| pool.default_want(), LeaseRequest::one).patient();
                (number, (key, twice(&pool, want, &work).await))
            }
        };
        Results {
            pool: self.clone(),
            jobs: Some(Box::pin(jobs.enumerate().map(start))),
            running: FuturesUnordered::new(),
            early: None,
            next: 0,
        }
    }
}

async fn twice<T>(pool: &Pool, want: LeaseRequest, work: &impl AsyncFn(&Lease) -> Result<T>) -> Result<T> {
    let mut tries = Retry::new(pool, want);
    loop {
        let lease = tries.lease().await?;
        let result = work(&lease).await;
        if tries.are_over(lease, &result) {
            return result;
        }
    }
}

/// The results of jobs: from [`Pool::stream`]. A stream of keys and results.
#[must_use = "nothing is done but while it is polled"]
pub struct Results<J: Stream<Item: Future>> {
    pool: Pool,
    /// What is left of the jobs.
    jobs: Option<Pin<Box<J>>>,
    running: FuturesUnordered<J::Item>,
    /// Those whose turn has not come, where there are turns.
    early: Option<BTreeMap<usize, <J::Item as Future>::Output>>,
    /// The number of the next result.
    next: usize,
}

impl<J> Results<J>
where
    J: Stream<Item: Future>,
{
    /// Gives the results in the order of the jobs. One that takes long does not hold up the others, until 1024 of
    /// them wait for it; then no more jobs are taken.
    pub fn in_order(self) -> Self {
        Self { early: Some(BTreeMap::new()), ..self }
    }
}

impl<J, R> Stream for Results<J>
where
    J: Stream<Item: Future<Output = (usize, R)>>,
{
    type Item = R;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<R>> {
        let it = self.get_mut();
        loop {
            it.start_jobs(context);
            if let Some((_, result)) = it.early.as_mut().and_then(|early| early.remove(&it.next)) {
                it.next += 1;
                return Poll::Ready(Some(result));
            }
            match it.running.poll_next_unpin(context) {
                Poll::Ready(Some((number, result))) => match &mut it.early {
                    Some(early) => {
                        early.insert(number, (number, result));
                    }
                    None => return Poll::Ready(Some(result)),
                },
                Poll::Ready(None) if it.jobs.is_none() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<J> Results<J>
where
    J: Stream<Item: Future>,
{
    /// Takes jobs for as long as there is room for them and they come.
    fn start_jobs(&mut self, context: &mut Context<'_>) {
        let room = self.pool.0.0.state().size().max(1);
        let early = self.early.as_ref().map_or(0, BTreeMap::len);
        while self.running.len() < room && early < EARLY {
            let Some(jobs) = &mut self.jobs else { return };
            match jobs.as_mut().poll_next(context) {
                Poll::Ready(Some(job)) => self.running.push(job),
                Poll::Ready(None) => self.jobs = None,
                Poll::Pending => return,
            }
        }
    }
}
