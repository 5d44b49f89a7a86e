//! The control groups of runs: which processes are in them, and that none is left.

use std::fs;

use super::*;
use crate::common::groups_of as of;

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
                assert_eq!(of(std::process::id()), [].into(), "destroy returns when the groups are gone");
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
            "exit" => {
                run(&container, &hog("exit 0", limits())).await;
                assert!(!of(std::process::id()).is_empty(), "the control");
            }
            "none" => {}
            other => panic!("no such role: {other}"),
        }
    });
    drop(runtime);
    if role == "exit" {
        std::process::exit(0);
    }
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
async fn a_host_that_exits_with_its_runtime_leaves_no_group() {
    let Some(source) = groups(&container().await).await else { return };
    let mut host = crate::common::another_host("exit", &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
    assert!(host.wait().unwrap().success());
    if source == Source::CgroupV1 {
        assert_eq!(of(host.id()), [].into(), "no process was in them");
    }
    // In v2 the init is in the container's group, and may be dying.
    crate::common::eventually("the next host removes what is left", || {
        assert!(crate::common::another_host("none", &[]).status().unwrap().success());
        of(host.id()).is_empty()
    })
    .await;
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
