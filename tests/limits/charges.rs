//! What runs leave charged slows no later tenant, is in no later peak, and is gone in the end.

use std::fs;

use cellblock::{Mount, Verdict};

use super::*;

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

/// Directory entries that do not exist stay charged as long as the kernel likes. With them, the
/// next run's allocations have the kernel look for memory to free, for seconds.
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

/// A program whose memory fits beside nothing else has the kernel free what earlier runs left.
#[tokio::test]
async fn charges_of_an_earlier_tenant_do_not_slow_the_next() {
    let container = container().await;
    if groups(&container).await.is_none() || is_slow() {
        return skip("this needs groups and true times");
    }
    let time = async |what| run(&container, &hog(what, limits().memory(100 * MIB))).await.usage.cpu.unwrap();
    let program = "heap 80000000";
    let (mut beside, mut after) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        time("miss 500000").await;
        beside.push(time(program).await);
        time("miss 500000").await;
        container.reset().await.unwrap();
        after.push(time(program).await);
    }
    let (beside, after) = (beside.into_iter().min().unwrap(), after.into_iter().min().unwrap());
    if beside < millis(150) {
        return skip("this kernel frees what is left at once");
    }
    assert!(after < beside / 2, "{after:?} after a reset, {beside:?} without");
}

#[tokio::test]
async fn a_limit_is_never_above_what_was_asked_whatever_was_left_before() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return;
    }
    let verdict = async |what: &str, mib| run(&container, &hog(what, limits().memory(mib * MIB))).await.verdict();
    for _ in 0..3 {
        assert_eq!(verdict("file 20971520", 64).await, Verdict::Ok, "20 MiB are left");
        assert_eq!(verdict("heap 41943040", 48).await, Verdict::Memory, "what is left counts");
        assert_eq!(verdict("replace 52428800", 48).await, Verdict::Memory, "what is freed is not credited");
        assert_eq!(verdict("file 20971520", 64).await, Verdict::Ok, "20 MiB are left");
        assert_eq!(verdict("replace 52428800", 56).await, Verdict::Ok, "the control");
        container.reset().await.unwrap();
    }
}

/// The memory groups of the machine, with those that the kernel keeps after their removal.
fn memory_groups() -> u64 {
    let number = |text: &str, key: &str, column| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(key))?;
        line.split_whitespace().nth(column)?.parse::<u64>().ok()
    };
    match fs::read_to_string("/sys/fs/cgroup/cgroup.stat") {
        Ok(text) => ["nr_descendants", "nr_dying_descendants"].iter().filter_map(|key| number(&text, key, 1)).sum(),
        Err(_) => number(&fs::read_to_string("/proc/cgroups").unwrap(), "memory", 2).unwrap(),
    }
}

/// The kernel keeps a removed group as long as pages of files are charged to it that the run was
/// the first to read, and for no other reason. `CELLBLOCK_TEST_GROUPS` sets the number of
/// containers (40). With more than 500 of them the library has the kernel drop such pages.
#[tokio::test]
async fn a_destroyed_container_leaves_no_group_once_the_files_that_it_read_are_gone() {
    if groups(&container().await).await.is_none() {
        return;
    }
    let containers: u64 = std::env::var("CELLBLOCK_TEST_GROUPS").map_or(40, |count| count.parse().unwrap());
    let shared = crate::common::open_dir();
    let file = File::create(shared.path().join("file")).unwrap();
    // A hole takes no space on the disk, and its pages are in memory once they are read.
    file.set_len(containers * MIB).unwrap();
    let builder = builder().mount(Mount::bind(shared.path(), "/shared"));
    let before = memory_groups();
    for number in 0..containers {
        let container = builder.clone().build().await.unwrap();
        let read = format!("dd if=/shared/file of=/dev/null bs=64k count=1 skip={} status=none", number * 16);
        assert!(run(&container, crate::common::sh(&read).limits(limits())).await.status.success());
        container.destroy().await;
    }
    let kept = memory_groups().saturating_sub(before);
    println!("{before} groups before, {kept} more after {containers} containers");
    if kept < containers.min(400) / 2 {
        return skip("this kernel keeps no groups, or the files are in a tmpfs");
    }
    // The limit of the library, and what others make at the same time.
    assert!(before + kept < before.max(1000) + 2 * containers.min(50), "{before} groups, and {kept} more");
    drop(file);
    drop(shared);
    crate::common::eventually("the kernel frees them with the pages", || {
        memory_groups().saturating_sub(before) < kept / 2
    })
    .await;
}
