//! The control groups of runs: which processes are in them, and that none is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;

/// All directories of runs below /sys/fs/cgroup.
fn directories() -> BTreeSet<PathBuf> {
    fn look(dir: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("cellblock-runs-") {
                found.insert(entry.path());
            } else if depth > 0 {
                look(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    look(Path::new("/sys/fs/cgroup"), 5, &mut found);
    found
}

/// The directories of the runs of one host.
fn of(host: u32) -> Vec<PathBuf> {
    directories()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(&format!("cellblock-runs-{host}-")))
        .collect()
}

/// The part of the other process.
pub fn play(role: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let container = container().await;
        groups(&container).await;
        match role {
            "run" => {
                let _process = container.spawn(&hog("sleep", limits())).await.unwrap();
                println!("running");
                std::future::pending::<()>().await;
            }
            "destroy" => {
                run(&container, &hog("exit 0", limits())).await;
                assert!(!of(std::process::id()).is_empty(), "the control");
                container.destroy().await;
                assert_eq!(of(std::process::id()), [] as [PathBuf; 0], "destroy returns when the groups are gone");
                // The runtime is dropped while a program runs.
                let container = crate::common::container().await;
                drop(container.spawn(&hog("sleep", limits())).await.unwrap());
                let _process = container.spawn(&hog("sleep", limits())).await.unwrap();
            }
            "remove" => {
                for group in of(std::process::id()) {
                    let below =
                        fs::read_dir(&group).unwrap().filter_map(|entry| fs::remove_dir(entry.unwrap().path()).ok());
                    below.for_each(drop);
                    fs::remove_dir(group).unwrap();
                }
                let mut refused = 0;
                while let Err(error) = container.run(&hog("exit 0", limits())).await {
                    assert!(error.is_retryable(), "{error}");
                    refused += 1;
                    assert!(refused < 3, "{error}");
                }
                assert!(refused > 0, "the control");
            }
            "none" => {}
            other => panic!("no such role: {other}"),
        }
    });
    drop(runtime);
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while !of(std::process::id()).is_empty() {
        assert!(std::time::Instant::now() < end, "{:?}", of(std::process::id()));
        std::thread::sleep(millis(2));
    }
}

#[tokio::test]
async fn groups_are_removed_with_their_container() {
    if groups(&container().await).await.is_none() {
        return;
    }
    let status = crate::common::another_host("destroy", &[]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn groups_of_a_dead_host_are_removed_by_the_next_host() {
    if groups(&container().await).await.is_none() {
        return;
    }
    let mut host = crate::common::another_host("run", &[]).spawn().unwrap();
    crate::common::read_up_to("running", &mut host);
    let left = of(host.id());
    assert!(!left.is_empty());
    // Another host does not touch them while the first one lives.
    assert!(crate::common::another_host("none", &[]).status().unwrap().success());
    assert_eq!(of(host.id()), left);
    host.kill().unwrap();
    host.wait().unwrap();
    assert_eq!(of(host.id()), left, "the control");
    crate::common::eventually("a host removes what is left once nothing is in it", || {
        assert!(crate::common::another_host("none", &[]).status().unwrap().success());
        of(host.id()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_removed_group_is_made_again() {
    // In v2 the init is in the container's group, so the group cannot be removed.
    if groups(&container().await).await != Some(Source::CgroupV1) {
        return;
    }
    assert!(crate::common::another_host("remove", &[]).status().unwrap().success());
}

#[tokio::test]
async fn the_init_is_not_in_the_group_of_its_run() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return;
    }
    let mark = "4321.1234";
    let mut command = Command::new("/bin/sleep");
    command.arg(mark);
    let mut process = container.spawn(&command).await.unwrap();
    let mut pids = Vec::new();
    crate::common::eventually("it runs", || {
        pids = crate::common::processes_with(mark);
        !pids.is_empty()
    })
    .await;
    let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups(pids[0]).contains("cellblock-runs-"));
    for init in crate::common::children() {
        let own = groups(init);
        assert!(!own.contains("cellblock-runs-") || own.trim_end().ends_with("/init"), "{own}");
    }
    process.kill().await.unwrap();
}

/// The memory that is charged to the group which has the limits of a container's runs.
async fn charged(container: &Container) -> u64 {
    let mark = "8642.97531";
    let mut process = container.spawn(Command::new("/bin/sleep").arg(mark).limits(limits())).await.unwrap();
    let pid = process.id().unwrap();
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = |key| lines.lines().find_map(|line: &str| line.split_once(key)).map(|(_, path)| path.to_owned());
    let file = match group(":memory:") {
        Some(path) => format!("/sys/fs/cgroup/memory{path}/../memory.usage_in_bytes"),
        None => format!("/sys/fs/cgroup{}/../memory.current", group("0::").unwrap()),
    };
    let bytes = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    process.kill().await.unwrap();
    bytes
}

/// Directory entries that do not exist stay charged as long as the kernel likes. With them, the next
/// run's allocations have the kernel look for memory to free, for seconds.
#[tokio::test]
async fn no_memory_that_a_run_left_is_charged_to_the_runs_after_a_reset() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return;
    }
    let misses = run(&container, &hog(if is_slow() { "miss 3000" } else { "miss 300000" }, limits())).await;
    assert!(misses.status.success(), "{misses}");
    let left = charged(&container).await;
    if left < 20 * MIB {
        return skip("this kernel does not remember what does not exist");
    }
    container.reset().await.unwrap();
    let after = charged(&container).await;
    assert!(after < 4 * MIB, "{after} of {left}");
}

/// Completes a future. Also returns the longest time for which this thread's tasks stood still.
async fn longest_stall<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = std::pin::pin!(work);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, longest.max(last.elapsed())),
            () = tokio::time::sleep(millis(1)) => {}
        }
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
}

#[tokio::test]
async fn a_limit_that_waits_for_memory_holds_up_no_other_task() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return;
    }
    assert!(
        run(&container, &hog(if is_slow() { "miss 3000" } else { "miss 1000000" }, limits())).await.status.success()
    );
    let start = Instant::now();
    let command = hog("exit 0", limits().memory(16 * MIB));
    let (report, stall) = longest_stall(container.run(&command)).await;
    let took = start.elapsed();
    report.unwrap();
    if took < millis(100) {
        return skip("this kernel lowers the limit at once");
    }
    assert!(is_slow() || stall < took / 3, "{stall:?} of {took:?}");
}

#[tokio::test]
async fn a_file_that_a_program_keeps_busy_holds_up_no_other_task() {
    let container = container().await;
    groups(&container).await;
    let mut command = hog("occupy 200000000", limits());
    command.stdout(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    tokio::io::AsyncReadExt::read_exact(process.stdout.as_mut().unwrap(), &mut [0; 5]).await.unwrap();
    let (mut longest, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..if is_slow() { 1 } else { 60 } {
        let start = Instant::now();
        let (written, stall) = longest_stall(container.file("busy").mode(0o600).write("x")).await;
        written.unwrap();
        (longest, slowest) = (longest.max(stall), slowest.max(start.elapsed()));
    }
    process.kill().await.unwrap();
    if slowest < millis(20) {
        return skip("this machine is too fast for the control");
    }
    assert!(is_slow() || longest < slowest / 2, "{longest:?} of {slowest:?}");
}
