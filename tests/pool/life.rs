//! A pool's own life: its containers die and are replaced, are more or fewer, and in the end are none.

use std::pin::pin;
use std::time::{Duration, Instant};

use cellblock::{Command, ErrorKind, Mount, Pool};
use futures::future::join_all;
use futures::poll;

use super::common::{LeakSnapshot, alone, builder, children, eventually, open_dir, sh};
use super::{SECOND, full, inits, kill_inits, pool, until};

#[test]
fn a_container_whose_init_is_killed_is_replaced() {
    alone(async |census| {
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
        assert!(inits(2).is_disjoint(&before), "the one that was lent, and the one that was not");
        for lease in join_all([pool.lease(), pool.lease()]).await {
            lease.unwrap().ping(SECOND).await.unwrap();
        }
        pool.shutdown(SECOND).await;
        census.is_back().await;
    });
}

#[test]
fn a_run_that_the_machine_failed_is_done_once_more_and_a_programs_failure_is_not() {
    alone(async |census| {
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
        assert_eq!(inits(1), before, "no container is given up for it");
        pool.shutdown(SECOND).await;
        census.is_back().await;
    });
}

#[test]
fn a_machine_that_can_build_no_container_says_so() {
    alone(async |census| {
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
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Build, "at once, from then on");
        assert_eq!(pool.status().broken, 2);
        drop(leases);
        std::fs::create_dir(&bound).unwrap();
        until(&pool, |status| status.ready == 2).await;
        pool.lease().await.unwrap().ping(SECOND).await.unwrap();
        pool.shutdown(SECOND).await;
        census.is_back().await;
    });
}

#[test]
fn a_pool_grows_and_shrinks_while_its_containers_are_lent() {
    alone(async |census| {
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
            lease.ping(SECOND).await.expect("what is lent stays");
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
        // One that goes and is wanted again before it has gone.
        let lease = pool.lease().await.unwrap();
        pool.resize(0);
        pool.resize(2);
        drop(lease);
        until(&pool, |status| status.ready == 2 && status.leased + status.returning == 0).await;
        inits(2);
        pool.shutdown(SECOND).await;
        census.is_back().await;
    });
}

#[test]
fn shutting_down_waits_for_what_is_lent_and_leaves_nothing() {
    alone(async |census| {
        let pool = pool(3).await;
        let lease = pool.lease().await.unwrap();
        let mut closing = pin!(pool.shutdown(60 * SECOND));
        assert!(poll!(&mut closing).is_pending());
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(lease.run(&sh("sleep 0.05")).await.unwrap().status.success());
        drop(lease);
        closing.await;
        assert_eq!(LeakSnapshot::take(), census, "at once");
        pool.shutdown(SECOND).await;
        pool.resize(3);
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Closed, "for good");
        census.is_back().await;
    });
}

#[test]
fn shutting_down_at_once_destroys_the_container_that_was_built_first() {
    alone(async |census| {
        let pool = Pool::builder(builder()).size(1).build().await.unwrap();
        pool.shutdown(SECOND).await;
        assert_eq!(LeakSnapshot::take(), census, "at once");
        drop(pool);
        census.is_back().await;
    });
}

#[test]
fn shutting_down_ends_what_is_lent_after_its_deadline() {
    alone(async |census| {
        let pool = pool(2).await;
        let (lease, other) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        let mut waiting = pin!(pool.lease());
        assert!(poll!(&mut waiting).is_pending());
        let endless = sh("sleep 60");
        let mut run = Box::pin(lease.run(&endless));
        assert!(poll!(&mut run).is_pending());
        // The deadline holds though nobody waits for it.
        assert!(poll!(pin!(pool.shutdown(SECOND / 20))).is_pending());
        assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(run.as_mut().await.unwrap_err().kind(), ErrorKind::Destroyed);
        drop(run);
        pool.shutdown(60 * SECOND).await;
        assert_eq!(other.ping(SECOND).await.unwrap_err().kind(), ErrorKind::Destroyed);
        assert_eq!(LeakSnapshot::take(), census, "at once");
        drop((lease, other));
        census.is_back().await;
    });
}

#[test]
fn a_dropped_pool_goes_when_its_leases_have() {
    alone(async |census| {
        let pool = pool(2).await;
        let lease = pool.lease().await.unwrap();
        let kept = lease.clone();
        drop(pool);
        eventually("the idle one is destroyed", || children().len() == 1).await;
        lease.ping(SECOND).await.unwrap();
        drop(lease);
        census.is_back().await;
        assert_eq!(kept.ping(SECOND).await.unwrap_err().kind(), ErrorKind::Returned);
    });
}

#[test]
fn a_pool_goes_with_its_runtime() {
    alone(async |census| {
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
        census.is_back().await;
    });
}

#[test]
fn many_containers_live_at_once_and_all_answer() {
    alone(async |census| {
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
        census.is_back().await;
    });
}
