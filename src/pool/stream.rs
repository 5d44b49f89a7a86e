//! A stream of jobs in, a stream of results out.
//!
//! Invariant: each job that was taken from its stream gives exactly one result, unless the results
//! are dropped.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::error::Result;
use crate::limits::Limits;

use super::attempts::Attempts;
use super::handle::Pool;
use super::lease::Lease;
use super::request::LeaseRequest;

/// How many finished results may wait for an earlier one, for results in order.
const MAX_FINISHED: usize = 1024;

/// Work for a container of a pool, with a key that its result comes with.
///
/// ```
/// use cellblock::{Command, Lease, pool::Job};
///
/// let job = Job::new("hello", async |lease: &Lease| {
///     lease.write("input", "hello").await?;
///     lease.output(Command::new("cat").arg("input")).await
/// });
/// ```
#[derive(Clone, Debug)]
#[must_use = "a job does nothing until a pool has it"]
pub struct Job<K, F> {
    key: K,
    work: F,
    memory: Option<u64>,
}

impl<K, F> Job<K, F> {
    /// A job that does `work`, and again in another container if the pool's
    /// [`Retry`](crate::pool::Retry) says so.
    pub fn new(key: K, work: F) -> Self {
        Self { key, work, memory: None }
    }

    /// Sets the highest memory limit of the job's runs, in bytes, for a pool that
    /// [counts memory](crate::pool::PoolBuilder::memory). Default: 1 GiB, or all that the pool has.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Sets [`memory`](Self::memory) to that of these limits.
    pub fn limits(self, limits: &Limits) -> Self {
        self.memory(limits.memory_or_default())
    }
}

impl Pool {
    /// Does as many jobs at once as the pool has containers. The results come as they finish or,
    /// with [`in_order`](Results::in_order), in the order of the jobs.
    ///
    /// A job is taken from its stream only when there is room for it, so a full queue refuses none.
    /// After a [retryable](crate::Error::is_retryable) error the job is done once more in another
    /// container, or as the pool's [`Retry`](crate::pool::Retry) says. Its result is that of the
    /// last attempt.
    ///
    /// # Cancel safety
    /// Work is done only while the results are polled. If they are dropped, running programs are
    /// killed and the containers returned. Jobs that were not taken stay in their stream, which may
    /// be passed by reference.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: cellblock::Pool) -> cellblock::Result<()> {
    /// use cellblock::{Command, Lease, pool::Job};
    /// use futures::{StreamExt, stream};
    ///
    /// let jobs = stream::iter((0..1000).map(|number: u32| {
    ///     Job::new(number, async move |lease: &Lease| {
    ///         lease.output(Command::new("echo").arg(number.to_string())).await
    ///     })
    /// }));
    /// let mut results = pool.stream(jobs);
    /// while let Some((number, result)) = results.next().await {
    ///     println!("{number}: {}", result?.report.verdict());
    /// }
    /// # Ok(()) }
    /// ```
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
                let memory = memory.unwrap_or_else(|| pool.default_memory());
                let attempts = Attempts::new(&pool.inner, LeaseRequest::one(memory).patient(), None);
                (number, (key, do_job(attempts, &work).await))
            }
        };
        Results {
            pool: self.clone(),
            jobs: Some(Box::pin(jobs.enumerate().map(start))),
            running: FuturesUnordered::new(),
            finished: None,
            next: 0,
        }
    }
}

async fn do_job<T>(mut attempts: Attempts<'_>, work: &impl AsyncFn(&Lease) -> Result<T>) -> Result<T> {
    loop {
        let lease = attempts.acquire().await?;
        let result = work(&lease).await;
        if let Some(result) = attempts.finish(lease, result) {
            return result;
        }
    }
}

/// A stream of the keys and results of jobs: from [`Pool::stream`].
#[must_use = "jobs are done only while the results are polled"]
pub struct Results<J: Stream<Item: Future>> {
    pool: Pool,
    /// The jobs that were not taken yet. `None` once their stream has ended.
    jobs: Option<Pin<Box<J>>>,
    running: FuturesUnordered<J::Item>,
    /// For results in order: the results that wait for an earlier one, by the number of their job.
    finished: Option<BTreeMap<usize, <J::Item as Future>::Output>>,
    /// For results in order: the number of the job whose result is next.
    next: usize,
}

impl<J> Results<J>
where
    J: Stream<Item: Future>,
{
    /// Gives the results in the order of the jobs.
    ///
    /// A slow job does not hold up the jobs after it, until 1024 results wait for it. Then no more
    /// jobs are taken.
    pub fn in_order(self) -> Self {
        Self { finished: Some(BTreeMap::new()), ..self }
    }

    /// Takes jobs while there is room for them and their stream has some.
    fn start_jobs(&mut self, context: &mut Context<'_>) {
        let room = self.pool.inner.state().size().max(1);
        while self.running.len() < room && self.finished.as_ref().map_or(0, BTreeMap::len) < MAX_FINISHED {
            let Some(jobs) = &mut self.jobs else { return };
            match jobs.as_mut().poll_next(context) {
                Poll::Ready(Some(job)) => self.running.push(job),
                Poll::Ready(None) => self.jobs = None,
                Poll::Pending => return,
            }
        }
    }

    /// For results in order: takes the next result, if its job has finished.
    fn take_next(&mut self) -> Option<<J::Item as Future>::Output> {
        let result = self.finished.as_mut()?.remove(&self.next)?;
        self.next += 1;
        Some(result)
    }
}

impl<J, R> Stream for Results<J>
where
    J: Stream<Item: Future<Output = (usize, R)>>,
{
    type Item = R;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<R>> {
        let this = self.get_mut();
        loop {
            this.start_jobs(context);
            if let Some((_, result)) = this.take_next() {
                return Poll::Ready(Some(result));
            }
            match this.running.poll_next_unpin(context) {
                Poll::Ready(Some((number, result))) => match &mut this.finished {
                    Some(finished) => {
                        finished.insert(number, (number, result));
                    }
                    None => return Poll::Ready(Some(result)),
                },
                Poll::Ready(None) if this.jobs.is_none() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
