//! Every future of a pool may be dropped after any number of polls. No container is lost, and none
//! is leased twice.

use std::pin::pin;

use cellblock::{Lease, Pool, pool::Job};
use futures::{StreamExt, stream};

use super::{inits, pool, until};
use crate::common::{LeakSnapshot, SECOND, alone, builder, polled, sh};

/// Drops a future after no poll, after one, after two, until it completes. `attempt` makes and
/// polls the future and returns whether it completed. After each attempt the pool must get all its
/// containers back, the same ones.
async fn at_every_poll(pool: &Pool, what: &str, mut attempt: impl AsyncFnMut(usize) -> bool) {
    let (snapshot, before) = (LeakSnapshot::beside_a_container(), inits(pool.status().size));
    for polls in 0..10_000 {
        let is_complete = attempt(polls).await;
        until(pool, |status| status.ready == status.size && status.waiting == 0).await;
        assert_eq!(inits(pool.status().size), before, "{what}, after {polls} polls");
        if is_complete {
            assert!(polls > 0, "{what} is complete before it is polled");
            return snapshot.assert_restored().await;
        }
    }
    panic!("{what} never ends");
}

#[test]
fn a_pool_keeps_all_containers_after_any_future_is_dropped() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let it = &pool;
        let slow = sh("echo left > left; sleep 0.003");
        let (says, hears) = (sh("echo hello; sleep 0.003"), sh("cat"));
        at_every_poll(it, "lease", async |polls| polled(polls, it.lease()).await.is_some()).await;
        at_every_poll(it, "lease with a deadline", async |polls| {
            polled(polls, it.lease_within(SECOND)).await.is_some()
        })
        .await;
        at_every_poll(it, "lease when all are leased", async |polls| {
            let leases = it.lease_pair().await.unwrap();
            let mut waiting = pin!(it.lease());
            if polls == 0 {
                return false;
            }
            assert!(polled(1, waiting.as_mut()).await.is_none());
            drop(leases);
            polled(polls, waiting).await.is_some()
        })
        .await;
        at_every_poll(it, "two leases when one is leased", async |polls| {
            let lease = it.lease().await.unwrap();
            let mut waiting = pin!(it.lease_pair());
            if polls == 0 {
                return false;
            }
            assert!(polled(1, waiting.as_mut()).await.is_none());
            drop(lease);
            polled(polls, waiting).await.is_some()
        })
        .await;
        at_every_poll(it, "run", async |polls| polled(polls, it.run(&slow)).await.is_some()).await;
        at_every_poll(it, "output", async |polls| polled(polls, it.output(&slow)).await.is_some()).await;
        at_every_poll(it, "converse", async |polls| polled(polls, it.converse(&says, &hears)).await.is_some()).await;
        let slow = &slow;
        for in_order in [false, true] {
            at_every_poll(it, "stream", async |polls| {
                let job = |number| Job::new(number, async move |lease: &Lease| lease.run(slow).await);
                let jobs = it.stream(stream::iter((0..4).map(job)));
                let results = if in_order { jobs.in_order() } else { jobs };
                polled(polls, results.collect::<Vec<_>>()).await.is_some_and(|results| {
                    assert!(results.len() == 4 && results.iter().all(|(_, result)| result.is_ok()));
                    true
                })
            })
            .await;
        }
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_build_or_shutdown_dropped_at_any_poll_leaves_nothing() {
    alone(async |snapshot| {
        for polls in 0..10_000 {
            let pool = polled(polls, Pool::builder(builder()).size(2).build()).await;
            let is_built = pool.is_some_and(|pool| pool.is_ok());
            snapshot.assert_restored().await;
            if is_built {
                break;
            }
        }
        for polls in 0..10_000 {
            let pool = pool(2).await;
            let lease = pool.lease().await.unwrap();
            let is_down = polled(polls, pool.shutdown(SECOND / 200)).await.is_some();
            if polls == 0 {
                drop(pool.lease().await.expect("an unpolled shutdown does nothing"));
            } else if !is_down {
                pool.shutdown(60 * SECOND).await;
            }
            assert!(polls == 0 || lease.ping(SECOND).await.is_err(), "the deadline holds without the future");
            drop((pool, lease));
            snapshot.assert_restored().await;
            if is_down {
                return assert!(polls > 1);
            }
        }
    });
}
