//! The cost of a pool: a lease alone, and judged runs next to bare spawns.
//!
//! `cargo bench --bench pool`, measured as in the bench `exec`. A judged run is everything that a
//! judge does for one run: it leases a reset container, copies a program into it, runs the program
//! with limits, an input and captured output, and takes the verdict. The reset counts too, because
//! the next run waits for it when all containers are busy.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use cellblock::{Command, Lease, Pool, Stdio, Verdict, pool::Job};
use common::{Bench, builder, limits, spawn_bare};
use futures::{StreamExt, stream};
use tokio::runtime::{self, Runtime};

fn main() {
    cellblock::init();
    let mut bench = Bench::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let program = std::fs::read("/bin/true").unwrap();
    for (flavor, runtime) in [
        ("current-thread", runtime::Builder::new_current_thread().enable_all().build().unwrap()),
        ("multi-thread", runtime::Builder::new_multi_thread().enable_all().build().unwrap()),
    ] {
        let idle = pool(&runtime, 1);
        bench.alone(&format!("lease and return, {flavor}"), |count| {
            // In a task, as in a service. The main thread is not a worker and would have to wake
            // one.
            runtime.block_on(runtime.spawn(lease_and_return(idle.clone(), count))).unwrap()
        });
        runtime.block_on(idle.shutdown(Duration::ZERO));
        for containers in [1, cores, 2 * cores, 4 * cores] {
            let pool = pool(&runtime, containers);
            bench.pair(
                &format!("judged run, {containers} containers, {flavor}"),
                |count| spawn_bare(c"/bin/true", count, containers),
                |count| judge(&runtime, &pool, &program, count * containers as u64),
            );
            runtime.block_on(pool.shutdown(Duration::ZERO));
        }
    }
    bench.finish();
}

fn pool(runtime: &Runtime, size: usize) -> Pool {
    runtime.block_on(async {
        let pool = Pool::builder(builder()).size(size).build().await.unwrap();
        ready(&pool).await;
        pool
    })
}

/// The time of the caller. The reset is not part of it.
async fn lease_and_return(pool: Pool, count: u64) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..count {
        let start = Instant::now();
        drop(pool.lease().await.unwrap());
        total += start.elapsed();
        ready(&pool).await;
    }
    total
}

async fn ready(pool: &Pool) {
    while pool.status().ready < pool.status().size {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
}

/// The wall time of `count` judged runs, as many at once as there are containers.
fn judge(runtime: &Runtime, pool: &Pool, program: &[u8], count: u64) -> Duration {
    let mut command = Command::new("./solution");
    command.stdin(Stdio::bytes("6 7\n")).limits(limits());
    let command = &command;
    let job = |number| {
        Job::new(number, async move |lease: &Lease| {
            lease.file("solution").mode(0o755).write(program).await?;
            lease.output(command).await
        })
    };
    let start = Instant::now();
    runtime.block_on(async {
        let mut results = pool.stream(stream::iter((0..count).map(job)));
        while let Some((_, output)) = results.next().await {
            assert_eq!(output.unwrap().report.verdict(), Verdict::Ok);
        }
    });
    start.elapsed()
}
