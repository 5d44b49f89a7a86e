//! Pools of containers: built ahead, leased first come, first served, reset after each lease.
//!
//! A [`Pool`] keeps a number of containers ready. [`Pool::run`] and [`Pool::output`] run one
//! program in one container. [`Pool::lease`] hands out a container for as long as the caller needs
//! it. [`Pool::stream`] does many jobs at once, and [`Pool::converse`] runs two programs that talk
//! to each other.
//!
//! Each container has a task that builds, resets and replaces it in the background, off the
//! caller's path. One lock guards which caller has which container and which callers wait.
//!
//! ```no_run
//! # async fn example() -> cellblock::Result<()> {
//! use std::time::Duration;
//! use cellblock::{Command, Container, Pool};
//!
//! let pool = Pool::builder(Container::builder()).size(4).build().await?;
//! let output = pool.output(Command::new("echo").arg("hello")).await?;
//! assert_eq!(output.stdout, b"hello\n");
//! pool.shutdown(Duration::from_secs(5)).await;
//! # Ok(()) }
//! ```
//!
//! # Units and defaults
//! Memory is in bytes. All durations are by the monotonic clock.
//!
//! | setting | default |
//! |---|---|
//! | [`PoolBuilder::size`] | the number of CPUs that this process may use |
//! | [`PoolBuilder::queue`] | 1024 waiting callers |
//! | [`PoolBuilder::pin_cpus`] | not pinned |
//! | [`PoolBuilder::memory`] | not counted |
//! | [`PoolBuilder::retry`] | one retry after a retryable error |
//! | memory of a lease | 1 GiB, the default of a run, or all that the pool has |
//!
//! # Errors
//! | kind | when | what to do |
//! |---|---|---|
//! | [`Busy`] | the queue is full; nothing was started | retry later |
//! | [`Timeout`] | no container was free within the time of [`Pool::lease_within`] | retry later |
//! | [`Closed`] | the pool is shut down | give up |
//! | [`Returned`] | a handle outlived its lease | fix the caller |
//! | [`InvalidInput`] | more containers or memory than the pool has | fix the caller |
//! | the kind of the build | the last build of every container failed | see the error's hint |
//!
//! If a run fails with a [retryable](crate::Error::is_retryable) error, [`Pool::run`],
//! [`Pool::output`] and [`Pool::stream`] replace the container and retry in another one, once or as
//! [`Retry`] says. A program's own failure is a [`Report`](crate::Report), and never retried. A
//! failed build is retried after 50 ms, then after twice the last pause, up to 3.2 s.
//!
//! [`Busy`]: crate::ErrorKind::Busy
//! [`Timeout`]: crate::ErrorKind::Timeout
//! [`Closed`]: crate::ErrorKind::Closed
//! [`Returned`]: crate::ErrorKind::Returned
//! [`InvalidInput`]: crate::ErrorKind::InvalidInput
//!
//! # Cancel safety
//! Every future of a pool may be dropped at any await. A dropped future gives up its place in the
//! queue, kills the program that it started, and returns its container. No container is lost, and
//! none is leased twice.
//!
//! # Metrics
//! With the feature `metrics`, the library reports these metrics through the `metrics` crate. Each
//! build describes them to the recorder, with their units. Several pools of one process add up.
//!
//! | name | kind | unit | labels | what |
//! |---|---|---|---|---|
//! | `cellblock_leases_total` | counter | count | | leases of containers |
//! | `cellblock_busy_total` | counter | count | | leases refused because the queue was full |
//! | `cellblock_replaced_total` | counter | count | | containers that were destroyed and replaced |
//! | `cellblock_retries_total` | counter | count | | work done once more in another container |
//! | `cellblock_failed_builds_total` | counter | count | | failed builds of a pool's containers |
//! | `cellblock_runs_total` | counter | count | `verdict` | runs that ended with a report |
//! | `cellblock_seconds` | histogram | seconds | `phase` | durations |
//! | `cellblock_containers` | gauge | count | `state` | containers of pools |
//! | `cellblock_waiting` | gauge | count | | callers that wait for a lease |
//!
//! - `verdict`: the [name](crate::Verdict::name) of the run's verdict.
//! - `phase`: `wait` (for a lease), `lease`, `reset`, `build`, `run`.
//! - `state`: `ready`, `leased`, `returning`, `building`, `broken`, as in [`PoolStatus`].
//!
//! # Traces
//! With the feature `tracing`, these spans have the level INFO:
//!
//! | span | parent | fields |
//! |---|---|---|
//! | `container` | the span that is entered at its build, if there is one | |
//! | `run` | that of the caller | `program`, `slot` (of a lease), `limits`; at the end `status`, `verdict` |
//!
//! A `run` begins with the call, so it includes the wait for earlier runs. The library prints
//! nothing. A failure of clean-up work, which has no caller, is an event of the level WARN with the
//! target `cellblock` and the field `failure`.

mod attempts;
mod builder;
mod converse;
mod handle;
mod inner;
mod lease;
mod request;
mod retry;
#[cfg(feature = "tower")]
mod service;
mod slot;
mod slot_task;
mod state;
mod status;
mod stream;

pub use builder::PoolBuilder;
pub use converse::{Conversation, Side};
pub use handle::Pool;
pub use lease::Lease;
pub use retry::Retry;
#[cfg(feature = "tower")]
pub use service::PoolService;
pub use status::PoolStatus;
pub use stream::{Job, Results};
