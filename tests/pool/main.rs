//! A pool leases its containers, resets them in between, replaces the ones that die, and leaves
//! nothing.
//!
//! These tests compare what the process has before and after, so they run one at a time.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod drops;
mod jobs;
mod leases;
mod life;
mod retries;
mod soak;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cellblock::{Pool, pool::PoolStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::{SECOND, builder, children};

/// A pool with all its containers ready.
async fn pool(size: usize) -> Pool {
    full(Pool::builder(builder()).size(size).build().await.unwrap()).await
}

async fn full(pool: Pool) -> Pool {
    until(&pool, |status| status.ready == status.size).await;
    pool
}

/// Waits until the status of a pool meets a condition; fails after thirty seconds.
async fn until(pool: &Pool, is_so: impl Fn(&PoolStatus) -> bool) {
    let end = Instant::now() + 30 * SECOND;
    while !is_so(&pool.status()) {
        assert!(Instant::now() < end, "the pool stays {:?}", pool.status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn kill_inits(inits: &BTreeSet<u32>) {
    for &init in inits {
        // An init that has ended already is no error.
        kill(Pid::from_raw(init as i32), Signal::SIGKILL).ok();
    }
}

/// The pids of this process's inits. Asserts that there are exactly `count`.
fn inits(count: usize) -> BTreeSet<u32> {
    let inits = children();
    assert_eq!(inits.len(), count);
    inits
}
