//! Many jobs in a pool whose inits are killed, whose groups are removed, and whose host runs out of
//! descriptors.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cellblock::{ErrorKind, Lease, Limits, Pool, pool::Job};
use futures::future::{Either, select};
use futures::{StreamExt, stream};

use super::{kill_inits, pool, until};
use crate::common::random::Random;
use crate::common::{FewDescriptors, SECOND, alone, children, sh};

/// `CELLBLOCK_TEST_JOBS` sets the number of jobs (1000).
#[test]
fn every_job_has_one_result_under_any_fault() {
    alone(async |snapshot| {
        let jobs: u32 = std::env::var("CELLBLOCK_TEST_JOBS").map_or(1000, |jobs| jobs.parse().unwrap());
        let pool = pool(4).await;
        let faults = Faults::default();
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
        match select(Box::pin(work), Box::pin(strike(&pool, &faults))).await {
            Either::Left(((), strikes)) => drop(strikes),
            Either::Right(_) => unreachable!("the faults never end"),
        }
        let took = start.elapsed();
        assert!(seen.iter().all(|&count| count == 1), "each job has exactly one result");
        until(&pool, |status| status.ready == 4).await;
        println!("{jobs} jobs in {took:?}, of which {failed} failed twice, with {faults:?}");
        assert!(failed < jobs / 10 + 10, "most jobs succeed");
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

/// A job that prints its number, and fails in a container that was not reset.
fn job(number: u32) -> Job<u32, impl AsyncFn(&Lease) -> cellblock::Result<cellblock::Output>> {
    let mut command = sh("read number < number; echo $number; [ ! -e left ] && echo > left");
    command.limits(Limits::new().memory(64 << 20).processes(16).allow_weaker(true));
    Job::new(number, async move |lease: &Lease| {
        lease.write("number", format!("{number}\n")).await?;
        lease.output(&command).await
    })
}

/// How often each fault struck.
#[derive(Debug, Default)]
struct Faults {
    inits_killed: Cell<u32>,
    groups_removed: Cell<u32>,
    times_without_descriptors: Cell<u32>,
}

/// Strikes with one fault after another.
async fn strike(pool: &Pool, faults: &Faults) {
    let mut random = Random::new(0x5eed);
    let add = |cell: &Cell<u32>, more: u32| cell.set(cell.get() + more);
    loop {
        tokio::time::sleep(SECOND / 1000 * random.below(200) as u32).await;
        match random.below(3) {
            0 => {
                let victim = children().into_iter().nth(random.below(pool.status().size as u64) as usize);
                add(&faults.inits_killed, victim.is_some().into());
                kill_inits(&victim.into_iter().collect());
            }
            1 => add(&faults.groups_removed, remove_groups()),
            _ => {
                let _few = FewDescriptors::below(3);
                add(&faults.times_without_descriptors, 1);
                tokio::time::sleep(SECOND / 200).await;
            }
        }
    }
}

/// Removes the empty control groups of this process's runs.
fn remove_groups() -> u32 {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let files = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    let groups: BTreeSet<_> =
        files.filter_map(|file| file.ancestors().find(|dir| is_group(dir)).map(PathBuf::from)).collect();
    groups.iter().filter(|group| fs::remove_dir(group).is_ok()).count() as u32
}

fn is_group(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cellblock-runs-"))
}
