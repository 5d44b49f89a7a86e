//! Many jobs over a pool to which things happen.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use cellblock::{ErrorKind, Lease, Limits, Pool, pool::Job};
use futures::future::{Either, select};
use futures::{StreamExt, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::{kill_inits, pool, until};
use crate::common::{SECOND, alone, children, sh};

/// `CELLBLOCK_TEST_JOBS` says how many jobs (1000).
#[test]
fn every_job_has_one_result_whatever_happens_to_the_machine() {
    alone(async |census| {
        let jobs: u32 = std::env::var("CELLBLOCK_TEST_JOBS").map_or(1000, |jobs| jobs.parse().unwrap());
        let pool = pool(4).await;
        let toll = Toll::default();
        let (start, mut seen, mut failed) = (Instant::now(), vec![0_u32; jobs as usize], 0);
        let work = async {
            let mut results = pool.stream(stream::iter((0..jobs).map(job)));
            while let Some((number, result)) = results.next().await {
                seen[number as usize] += 1;
                match result {
                    Ok(output) => {
                        assert!(output.report.status.success(), "job {number}: {output:?}");
                        assert_eq!(output.stdout, format!("{number}\n").into_bytes(), "its own result");
                    }
                    Err(error) => {
                        assert!(error.is_retryable() || error.kind() == ErrorKind::Build, "job {number}: {error}");
                        failed += 1;
                    }
                }
            }
        };
        match select(Box::pin(work), Box::pin(trouble(&pool, &toll))).await {
            Either::Left(((), trouble)) => drop(trouble),
            Either::Right(_) => unreachable!("there is no end of trouble"),
        }
        let took = start.elapsed();
        assert!(seen.iter().all(|&count| count == 1), "none is lost, and none comes twice");
        until(&pool, |status| status.ready == 4).await;
        println!("{jobs} jobs in {took:?}, of which {failed} failed twice, with {toll:?}");
        assert!(failed < jobs / 10 + 10, "most get over it");
        pool.shutdown(SECOND).await;
        census.is_back().await;
    });
}

/// Says which one it is, and fails in a container that is not as good as new.
fn job(number: u32) -> Job<u32, impl AsyncFn(&Lease) -> cellblock::Result<cellblock::Output>> {
    let mut command = sh("read number < number; echo $number; [ ! -e left ] && echo > left");
    command.limits(Limits::new().memory(64 << 20).processes(16).allow_weaker(true));
    Job::new(number, async move |lease: &Lease| {
        lease.write("number", format!("{number}\n"), 0o644).await?;
        lease.output(&command).await
    })
}

/// What has happened.
#[derive(Debug, Default)]
struct Toll {
    inits_killed: Cell<u32>,
    groups_removed: Cell<u32>,
    times_without_descriptors: Cell<u32>,
}

async fn trouble(pool: &Pool, toll: &Toll) {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let add = |cell: &Cell<u32>, more: u32| cell.set(cell.get() + more);
    loop {
        let number = proptest::prelude::RngCore::next_u32(&mut random);
        tokio::time::sleep(SECOND / 1000 * (number % 200)).await;
        match number / 200 % 3 {
            0 => {
                let inits = children();
                let victim = inits.into_iter().nth(number as usize / 600 % pool.status().size);
                add(&toll.inits_killed, victim.is_some().into());
                kill_inits(&victim.into_iter().collect());
            }
            1 => add(&toll.groups_removed, remove_groups()),
            _ => {
                let limits = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
                let _restored = Restored(limits);
                setrlimit(Resource::RLIMIT_NOFILE, 3, limits.1).unwrap();
                add(&toll.times_without_descriptors, 1);
                tokio::time::sleep(SECOND / 200).await;
            }
        }
    }
}

/// Gives the descriptors back, whatever becomes of who took them.
struct Restored((u64, u64));

impl Drop for Restored {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0.0, self.0.1).unwrap();
    }
}

/// Removes those groups of runs of this process that are empty.
fn remove_groups() -> u32 {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let groups = open.filter_map(|fd| fs::read_link(fd.path()).ok()).filter_map(|file| {
        let is_group = |dir: &&std::path::Path| dir.file_name()?.to_str()?.starts_with("cellblock-runs-").then_some(());
        file.ancestors().find(|dir| is_group(dir).is_some()).map(PathBuf::from)
    });
    let groups: std::collections::BTreeSet<_> = groups.collect();
    groups.iter().filter(|group| fs::remove_dir(group).is_ok()).count() as u32
}
