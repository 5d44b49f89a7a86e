//! Leases: their order, their limits, and what a handle can do after its lease.

use std::pin::pin;

use cellblock::{Command, ErrorKind, Lease, Limits, Pool, container::OpenFile, limits::Limit, seccomp::Filter};
use futures::future::{join, join_all};
use futures::{FutureExt, poll};

use super::{full, inits, pool, until};
use crate::common::{KILLED, SECOND, alone, builder, says, sh};

#[test]
fn leases_are_granted_in_order() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let first = pool.lease().await.unwrap();
        let order = std::cell::RefCell::new(Vec::new());
        let waiting = join_all((0..20).map(|number| {
            let (pool, order) = (&pool, &order);
            async move {
                let _lease = pool.lease().await.unwrap();
                order.borrow_mut().push(number);
                tokio::task::yield_now().await;
            }
        }));
        // A later request must not overtake them while the container is free for a moment.
        let late = async {
            tokio::time::sleep(SECOND / 100).await;
            drop(first);
            let _lease = pool.lease().await.unwrap();
            order.borrow_mut().push(20);
        };
        join(waiting, late).await;
        assert_eq!(order.into_inner(), (0..=20).collect::<Vec<_>>());
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_full_queue_returns_busy_at_once_with_its_length() {
    alone(async |snapshot| {
        let pool = Pool::builder(builder()).size(1).queue(2).build().await.unwrap();
        let lease = pool.lease().await.unwrap();
        let (mut one, mut two) = (pin!(pool.lease()), Box::pin(pool.lease()));
        assert!(poll!(&mut one).is_pending() && poll!(&mut two).is_pending());
        let error = pool.lease().now_or_never().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.is_retryable() && error.to_string().contains("2 wait already, and 2 may"), "{error}");
        assert_eq!(pool.run(&Command::new("true")).await.unwrap_err().kind(), ErrorKind::Busy);
        drop(two);
        assert_eq!(pool.status().waiting, 1, "a dropped future leaves the queue");
        assert!(pool.lease().now_or_never().is_none(), "there is room again");
        drop(lease);
        drop(one.await.unwrap());
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_lease_may_have_a_deadline() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let lease = pool.lease_within(SECOND).await.unwrap();
        let error = pool.lease_within(SECOND / 50).await.unwrap_err();
        assert_eq!((error.kind(), pool.status().waiting), (ErrorKind::Timeout, 0), "{error}");
        drop(lease);
        drop(pool.lease_within(5 * SECOND).await.unwrap());
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn the_next_lease_does_not_see_the_files_of_the_last() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let list = sh("echo $(ls -A /w /tmp)");
        let init = inits(1);
        for _ in 0..3 {
            let lease = pool.lease().await.unwrap();
            assert_eq!(says(&lease, &list).await, "/tmp: /w:");
            lease.write("left", *b"behind").await.unwrap();
            lease.write("/tmp/left", *b"behind").await.unwrap();
            assert_eq!(says(&lease, &list).await, "/tmp: left /w: left");
        }
        until(&pool, |status| status.ready == 1).await;
        assert_eq!(inits(1), init, "the container is the same");
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_container_without_a_filter_is_not_leased_again() {
    alone(async |snapshot| {
        for (filter, is_safe) in [(Filter::Denylist, true), (Filter::Off, false)] {
            let pool = Pool::builder(builder().filter(filter)).size(1).build().await.unwrap();
            let before = inits(1);
            drop(pool.lease().await.unwrap());
            pool.lease().await.unwrap().ping(SECOND).await.unwrap();
            assert_eq!(inits(1) == before, is_safe, "{filter:?}");
            pool.shutdown(SECOND).await;
        }
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_handle_kept_past_its_lease_returns_errors() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let init = inits(1);
        let lease = pool.lease().await.unwrap();
        let kept = lease.clone();
        kept.ping(SECOND).await.expect("the handle works while the lease lasts");
        drop(lease);
        for round in ["at once", "when the container is leased again"] {
            let next = (round != "at once").then(|| pool.lease());
            let next = match next {
                Some(next) => Some(next.await.unwrap()),
                None => None,
            };
            for error in [
                kept.ping(SECOND).await.unwrap_err(),
                kept.run(&Command::new("true")).await.unwrap_err(),
                kept.output(&Command::new("true")).await.unwrap_err(),
                kept.spawn(&Command::new("true")).await.unwrap_err(),
                kept.open([OpenFile::read("f")]).await.unwrap_err(),
                kept.write("f", *b"x").await.unwrap_err(),
                kept.symlink([("f", "g")]).await.unwrap_err(),
                kept.reset().await.unwrap_err(),
                kept.delete("f").await.unwrap_err(),
                kept.death().await,
            ] {
                assert_eq!(error.kind(), ErrorKind::Returned, "{round}: {error}");
                assert!(!error.is_retryable());
            }
            kept.destroy().await;
            if let Some(next) = next {
                next.ping(SECOND).await.expect("a stale handle does not destroy it");
                assert_eq!(says(&next, &sh("ls -A")).await, "", "a stale handle does not write to it");
            }
        }
        until(&pool, |status| status.ready == 1).await;
        assert_eq!(inits(1), init);
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn the_end_of_a_lease_kills_its_run_and_cancels_queued_ones() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let init = inits(1);
        let lease = pool.lease().await.unwrap();
        let (endless, then) = (sh("sleep 60"), sh("echo started > f"));
        let mut process = lease.spawn(&endless).await.unwrap();
        let kept = lease.clone();
        let mut waits = pin!(kept.run(&then));
        assert!(poll!(&mut waits).is_pending());
        drop(lease);
        let next = pool.lease_within(5 * SECOND).await.unwrap();
        assert_eq!(process.wait().await.unwrap().status, KILLED);
        assert_eq!(waits.await.unwrap_err().kind(), ErrorKind::Returned);
        assert_eq!(says(&next, &sh("ls -A")).await, "");
        drop((next, process));
        assert_eq!(inits(1), init, "the container is the same");
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_destroyed_or_discarded_container_is_replaced() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let first = inits(1);
        let lease = pool.lease().await.unwrap();
        lease.destroy().await;
        assert_eq!(lease.ping(SECOND).await.unwrap_err().kind(), ErrorKind::Destroyed);
        drop(lease);
        let lease = pool.lease_within(5 * SECOND).await.unwrap();
        let second = inits(1);
        Lease::discard(lease);
        pool.lease_within(5 * SECOND).await.unwrap().ping(SECOND).await.unwrap();
        let third = inits(1);
        assert!(first != second && second != third);
        let lease = pool.lease().await.unwrap();
        assert!(poll!(pin!(lease.destroy())).is_pending());
        drop(lease);
        pool.lease_within(5 * SECOND).await.unwrap().ping(SECOND).await.unwrap();
        assert_ne!(inits(1), third, "a destroy that has begun completes without its future");
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn leases_never_exceed_the_memory_of_the_pool() {
    alone(async |snapshot| {
        let mib = 1 << 20;
        let pool = full(Pool::builder(builder()).size(3).memory(100 * mib).build().await.unwrap()).await;
        let most = pool.lease_with_memory(60 * mib).await.unwrap();
        assert_eq!(pool.status().memory_left, Some(40 * mib));
        let mut much = Box::pin(pool.lease_with_memory(50 * mib));
        let mut little = pin!(pool.lease_with_memory(10 * mib));
        assert!(poll!(&mut much).is_pending());
        assert!(poll!(&mut little).is_pending(), "a small request does not overtake a large one");
        assert_eq!(pool.lease_with_memory(101 * mib).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        drop(much);
        let little = little.await.unwrap();
        let limited = |bytes| {
            let mut command = Command::new("/bin/true");
            command.limits(Limits::new().memory(bytes).allow_weaker(true));
            command
        };
        let refused = little.run(&limited(11 * mib)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
        let report = little.run(&limited(9 * mib)).await.unwrap();
        assert_eq!(report.limit(Limit::Memory).unwrap().value, 9 * mib);
        drop((most, little));
        until(&pool, |status| status.ready == 3).await;
        assert_eq!(pool.status().memory_left, Some(100 * mib));
        // Memory for two runs at a time, though there are three containers.
        let sleeper = sh("sleep 0.01");
        let mut sleeper = sleeper;
        sleeper.limits(Limits::new().memory(40 * mib).allow_weaker(true));
        let watch = async {
            for _ in 0..200 {
                assert!(pool.status().leased <= 2);
                tokio::time::sleep(SECOND / 1000).await;
            }
        };
        let (reports, ()) = join(join_all((0..10).map(|_| pool.run(&sleeper))), watch).await;
        assert!(reports.into_iter().all(|report| report.unwrap().status.success()));
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn runs_of_a_pinned_container_stay_on_its_cpu() {
    alone(async |snapshot| {
        let pool = full(Pool::builder(builder()).size(2).pin_cpus([0]).build().await.unwrap()).await;
        let command = sh("grep Cpus_allowed_list /proc/self/status");
        let leases = [pool.lease().await.unwrap(), pool.lease().await.unwrap()];
        for lease in &leases {
            assert_eq!(says(lease, &command).await, "Cpus_allowed_list:\t0");
        }
        let report = leases[0].run(&command).await.unwrap();
        assert_eq!(report.limit(Limit::CpuSet).map(|held| held.value), Some(1));
        if std::thread::available_parallelism().unwrap().get() > 1 {
            let mut elsewhere = command.clone();
            elsewhere.limits(Limits::new().cpu_set([1]).allow_weaker(true));
            assert_eq!(says(&leases[0], &elsewhere).await, "Cpus_allowed_list:\t1", "a command may set its own CPUs");
        }
        drop(leases);
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}
