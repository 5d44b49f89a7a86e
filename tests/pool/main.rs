//! A pool lends its containers in turn, takes them back as good as new, replaces those that die, and leaves nothing.
//!
//! These tests count what the process has, so they run one at a time.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod drops;
mod jobs;
mod leases;
mod life;
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

/// Waits until a pool is like this; fails after thirty seconds.
async fn until(pool: &Pool, is_so: impl Fn(&PoolStatus) -> bool) {
    let end = Instant::now() + 30 * SECOND;
    while !is_so(&pool.status()) {
        assert!(Instant::now() < end, "it stays {:?}", pool.status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn kill_inits(inits: &BTreeSet<u32>) {
    for &init in inits {
        // One that is gone is as dead as it should be.
        kill(Pid::from_raw(init as i32), Signal::SIGKILL).ok();
    }
}

/// The inits of this process, of which there must be so many.
fn inits(count: usize) -> BTreeSet<u32> {
    let inits = children();
    assert_eq!(inits.len(), count);
    inits
}
