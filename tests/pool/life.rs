//! The life of a pool: replacing containers, resizing, shutting down.

use std::pin::pin;
use std::time::{Duration, Instant};

use cellblock::{Command, ErrorKind, Mount, Pool};
use futures::future::join_all;
use futures::poll;

use super::{full, inits, kill_inits, pool, until};
use crate::common::{LeakSnapshot, SECOND, alone, builder, children, eventually, open_dir, sh};

#[test]
fn a_container_whose_init_is_killed_is_replaced() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let lease = pool.lease().await.unwrap();
        let before = inits(2);
        let endless = sh("sleep 60");
        let mut run = Box::pin(lease.run(&endless));
        assert!(poll!(&mut run).is_pending());
        tokio::time::sleep(SECOND / 50).await;
        kill_inits(&before);
        assert_eq!(run.as_mut().await.unwrap_err().kind(), ErrorKind::Lost);
        drop(run);
        drop(lease);
        until(&pool, |status| status.ready == 2).await;
        assert!(inits(2).is_disjoint(&before), "both the leased and the idle container are replaced");
        for lease in join_all([pool.lease(), pool.lease()]).await {
            lease.unwrap().ping(SECOND).await.unwrap();
        }
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_run_whose_container_died_is_retried_and_a_failed_program_is_not() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let endless = sh("echo begun >&2; sleep 0.2");
        let mut run = pin!(pool.output(&endless));
        assert!(poll!(&mut run).is_pending());
        tokio::time::sleep(SECOND / 20).await;
        kill_inits(&inits(1));
        let output = run.await.unwrap();
        assert_eq!(output.stderr, b"begun\n");
        until(&pool, |status| status.ready == 1).await;
        let before = inits(1);
        let failed = pool.run(&sh("exit 3")).await.unwrap();
        assert_eq!(failed.status.shell_code(), 3);
        assert_eq!(pool.run(&Command::new("/missing")).await.unwrap_err().kind(), ErrorKind::Exec);
        until(&pool, |status| status.ready == 1).await;
        assert_eq!(inits(1), before, "the container is the same");
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_pool_that_cannot_build_containers_returns_the_build_error() {
    alone(async |snapshot| {
        let dir = open_dir();
        let bound = dir.path().join("bound");
        let builder = builder().mount(Mount::bind(&bound, "/bound"));
        let error = Pool::builder(builder.clone()).size(2).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Build);
        std::fs::create_dir(&bound).unwrap();
        let pool = full(Pool::builder(builder).size(2).build().await.unwrap()).await;
        let leases = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        std::fs::remove_dir(&bound).unwrap();
        let mut waiting = pin!(pool.lease());
        assert!(poll!(&mut waiting).is_pending());
        kill_inits(&inits(2));
        let start = Instant::now();
        let error = waiting.await.unwrap_err();
        assert!(start.elapsed() < 5 * SECOND);
        assert_eq!((error.kind(), error.path()), (ErrorKind::Build, Some(&*bound)), "{error}");
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Build, "further requests fail at once");
        assert_eq!(pool.status().broken, 2);
        drop(leases);
        std::fs::create_dir(&bound).unwrap();
        until(&pool, |status| status.ready == 2).await;
        pool.lease().await.unwrap().ping(SECOND).await.unwrap();
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_pool_grows_and_shrinks_while_its_containers_are_leased() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let leases = [pool.lease().await.unwrap(), pool.lease().await.unwrap()];
        let mut waiting = Box::pin(pool.lease());
        assert!(poll!(&mut waiting).is_pending());
        pool.resize(4);
        let third = waiting.await.unwrap();
        until(&pool, |status| status.ready == 1 && status.leased == 3).await;
        pool.resize(1);
        until(&pool, |status| status.ready == 0).await;
        eventually("the idle one is destroyed", || children().len() == 3).await;
        for lease in leases.iter().chain([&third]) {
            lease.ping(SECOND).await.expect("leased containers stay");
        }
        let mut pair = pin!(pool.lease_pair());
        match poll!(&mut pair) {
            std::task::Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}"),
            _ => panic!("two of one container"),
        }
        drop((leases, third));
        until(&pool, |status| status.ready == 1 && status.leased + status.returning == 0).await;
        inits(1);
        pool.resize(3);
        until(&pool, |status| status.ready == 3).await;
        // A container that is retired and kept after all, before it is gone.
        let lease = pool.lease().await.unwrap();
        pool.resize(0);
        pool.resize(2);
        drop(lease);
        until(&pool, |status| status.ready == 2 && status.leased + status.returning == 0).await;
        inits(2);
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_shutdown_waits_for_leases_and_leaves_nothing() {
    alone(async |snapshot| {
        let pool = pool(3).await;
        let lease = pool.lease().await.unwrap();
        let mut closing = pin!(pool.shutdown(60 * SECOND));
        assert!(poll!(&mut closing).is_pending());
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(lease.run(&sh("sleep 0.05")).await.unwrap().status.success());
        drop(lease);
        closing.await;
        assert_eq!(LeakSnapshot::take(), snapshot, "at once");
        pool.shutdown(SECOND).await;
        pool.resize(3);
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Closed, "for good");
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_shutdown_at_once_destroys_the_container_that_was_built_first() {
    alone(async |snapshot| {
        let pool = Pool::builder(builder()).size(1).build().await.unwrap();
        pool.shutdown(SECOND).await;
        assert_eq!(LeakSnapshot::take(), snapshot, "at once");
        drop(pool);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_shutdown_destroys_leased_containers_after_its_deadline() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let (lease, other) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        let mut waiting = pin!(pool.lease());
        assert!(poll!(&mut waiting).is_pending());
        let endless = sh("sleep 60");
        let mut run = Box::pin(lease.run(&endless));
        assert!(poll!(&mut run).is_pending());
        // The deadline holds though the future is dropped.
        assert!(poll!(pin!(pool.shutdown(SECOND / 20))).is_pending());
        assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(run.as_mut().await.unwrap_err().kind(), ErrorKind::Destroyed);
        drop(run);
        pool.shutdown(60 * SECOND).await;
        assert_eq!(other.ping(SECOND).await.unwrap_err().kind(), ErrorKind::Destroyed);
        assert_eq!(LeakSnapshot::take(), snapshot, "at once");
        drop((lease, other));
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_dropped_pool_ends_with_its_last_lease() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let lease = pool.lease().await.unwrap();
        let kept = lease.clone();
        drop(pool);
        eventually("the idle one is destroyed", || children().len() == 1).await;
        lease.ping(SECOND).await.unwrap();
        drop(lease);
        snapshot.assert_restored().await;
        assert_eq!(kept.ping(SECOND).await.unwrap_err().kind(), ErrorKind::Returned);
    });
}

#[test]
fn a_pool_ends_with_its_runtime() {
    alone(async |snapshot| {
        let own = std::thread::spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let pool = pool(2).await;
                let lease = pool.lease().await.unwrap();
                (pool, lease)
            })
        });
        let (pool, lease) = own.join().unwrap();
        assert_eq!(lease.ping(SECOND).await.unwrap_err().kind(), ErrorKind::Lost);
        drop((pool, lease));
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_hundred_containers_answer_at_once() {
    alone(async |snapshot| {
        let count = std::env::var("CELLBLOCK_TEST_CONTAINERS").map_or(100, |count| count.parse().unwrap());
        let start = Instant::now();
        let pool = pool(count).await;
        let built = start.elapsed();
        let leases = join_all((0..count).map(|_| pool.lease())).await;
        let leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
        let answers = join_all(leases.iter().map(|lease| lease.ping(10 * SECOND))).await;
        assert!(answers.iter().all(Result::is_ok));
        let own = |pid: &u32| {
            let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let private = smaps.lines().filter(|line| line.starts_with("Private_"));
            private.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum::<u64>()
        };
        let kib: u64 = inits(count).iter().map(own).sum();
        println!("{count} containers in {built:?}; their inits have {} KiB each", kib / count as u64);
        drop(leases);
        pool.shutdown(Duration::ZERO).await;
        snapshot.assert_restored().await;
    });
}
