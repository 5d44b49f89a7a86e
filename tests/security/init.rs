//! The init: a program cannot inspect, signal, slow or limit it, and leaves nothing in it.

use std::time::Instant;

use cellblock::{Limits, Stdio, Verdict, limits::Limit, report::Cause, seccomp::Filter};
use tokio::io::AsyncReadExt;

use super::*;
use crate::common::{builder, has_own_ids, is_root, is_slow};

/// The state of the init that a program might change, as the host sees it.
fn state(init: u32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{init}/{file}")).unwrap();
    let stat = read("stat");
    // Priority, niceness and threads; real-time priority and policy. The fields between are times.
    let stat: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let status = read("status");
    let lasting = ["Sig", "Shd", "Cap", "Uid", "Gid", "Groups", "Umask", "Cpus_allowed", "Seccomp", "NoNew", "FDSize"];
    let status =
        status.lines().filter(|line| lasting.iter().any(|name| line.starts_with(name)) && !line.starts_with("SigQ"));
    let ioprio = HostCommand::new("ionice").args(["-p", &init.to_string()]).output().unwrap().stdout;
    format!(
        "{:?}\n{}\n{}{}{}{}",
        [&stat[15..18], &stat[37..39]].concat(),
        status.collect::<Vec<_>>().join("\n"),
        read("limits"),
        read("oom_score_adj"),
        read("coredump_filter"),
        String::from_utf8_lossy(&ioprio),
    )
}

#[tokio::test]
async fn a_program_cannot_inspect_the_init() {
    let container = container().await;
    // Without the filter too, so that ptrace(2) and its like reach the kernel.
    for unfiltered in [&container, &builder().filter(Filter::Off).build().await.unwrap()] {
        assert_eq!(successes(unfiltered, &attacks().command(&["look", "1"])).await, [""; 0]);
        assert_well(unfiltered).await;
    }
    let control = successes(&container, &attacks().command(&["look", "child"])).await;
    for way in ["mem", "environ", "maps", "fd", "ns/user", "exe", "root", "cwd", "ptrace"] {
        assert!(control.iter().any(|it| it == way), "a program may do that to its own: {way} {control:?}");
    }
    let control = on_host(attacks(), &["look", "child"]);
    assert_eq!((&*control["pidfd_getfd"], &*control["process_vm_readv"]), ("works", "works"));
}

#[tokio::test]
async fn a_program_cannot_slow_or_limit_the_init() {
    let container = container().await;
    let init = init_of(&container).await;
    let before = state(init);
    assert_eq!(successes(&container, &attacks().command(&["slow", "1"])).await, [""; 0]);
    assert_eq!(state(init), before);
    let control = successes(&container, &attacks().command(&["slow", "child"])).await;
    for way in ["nice", "scheduler", "affinity", "ioprio", "open files", "processes", "address space"] {
        assert!(control.iter().any(|it| it == way), "a program may do that to its own: {way} {control:?}");
    }
    // Without the filter only ids of its own protect the init. Without those, nothing does.
    let container = builder().filter(Filter::Off).build().await.unwrap();
    let init = init_of(&container).await;
    let before = state(init);
    let changed = successes(&container, &attacks().command(&["slow", "1"])).await;
    assert_eq!((changed.is_empty(), state(init) == before), (has_own_ids(), has_own_ids()), "{changed:?}");
}

#[tokio::test]
async fn no_signal_of_a_program_reaches_the_init() {
    let container = container().await;
    let init = init_of(&container).await;
    let before = state(init);
    assert_eq!(says(&container, &attacks().command(&["signals", "1"])).await, "signals ECHILD");
    assert_well(&container).await;
    assert_eq!(state(init), before, "no signal is pending either");
    assert_eq!(says(&container, &attacks().command(&["signals", "child"])).await, "signals works");
}

#[tokio::test]
async fn a_program_cannot_keep_the_init_busy() {
    let container = container().await;
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    for way in
        ["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "F_SETSIG", "stop"]
    {
        let mut woken = [0; 2];
        for (woken, container) in woken.iter_mut().zip([&container, &unfiltered]) {
            let init = init_of(container).await;
            let before = waits(init);
            says(container, &attacks().command(&["wake", way])).await;
            *woken = waits(init) - before;
        }
        assert!(woken[0] < 50, "{way}: {woken:?}");
        // The control: a program with the init's id and no filter. The init never hears of stops.
        assert_eq!(woken[1] > 100, !has_own_ids() && way != "stop", "{way}: {woken:?}");
    }
    let heard: u32 = says(&container, &attacks().command(&["wake", "stop of a child"])).await.parse().unwrap();
    assert!(heard > 100, "the control: other processes hear of it");
}

/// How often a process has blocked.
fn waits(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok()).unwrap()
}

#[tokio::test]
async fn programs_that_resist_their_end_are_killed_in_time() {
    let container = container().await;
    let fresh = fingerprint(&container).await;
    // Enough for the program to get ready: a fork takes milliseconds on an emulated machine.
    let wall_time = Duration::from_millis(if is_slow() { 1500 } else { 300 });
    for how in [
        "leader",
        "stop",
        "stopped children",
        "deaf",
        "traced",
        "traced by the init",
        "zombies",
        "vfork",
        "subreaper",
        "siblings",
        "storm",
    ] {
        let mut command = attacks().command(&["hang", how]);
        let limits = Limits::new().wall_time(wall_time).processes(64).allow_weaker(true);
        let start = Instant::now();
        let mut process = container.spawn(command.limits(limits).stdout(Stdio::piped())).await.unwrap();
        process.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).await.expect(how);
        container.ping(2 * SECOND).await.unwrap();
        let report = process.wait().await.unwrap();
        // One program exits by itself, but its tracer keeps the exit from the init.
        let is_over = report.cause == Cause::Limit(Limit::WallTime) || report.verdict() == Verdict::WallTime;
        assert!(is_over && start.elapsed() < wall_time + 3 * SECOND, "{how}: {:?} {report}", start.elapsed());
        assert_well(&container).await;
    }
    assert_eq!(differences(&fresh, &fingerprint(&container).await), [""; 0]);
}

#[tokio::test]
async fn an_exec_by_another_thread_stays_in_the_same_run() {
    let container = container().await;
    assert_eq!(says(&container, &attacks().command(&["execute"])).await, "from a thread");
}

#[tokio::test]
async fn changes_of_a_program_to_itself_do_not_reach_the_next() {
    let container = container().await;
    let fresh = fingerprint(&container).await;
    let change = include_str!("change.py");
    let during = format!("{change}\n{}", include_str!("fingerprint.py"));
    let changed = differences(&fresh, &says(&container, &python(&during)).await);
    for thing in
        ["limits", "scheduling", "io priority", "status Umask", "status SigIgn", "status SigBlk", "timerslack", "prctl"]
    {
        assert!(changed.iter().any(|line| line.starts_with(thing)), "the control: {thing} {changed:#?}");
    }
    assert_eq!(differences(&fresh, &fingerprint(&container).await), [""; 0]);
}

#[tokio::test]
async fn the_init_gains_no_descriptors_or_threads() {
    let container = container().await;
    let init = init_of(&container).await;
    let threads = || fs::read_dir(format!("/proc/{init}/task")).unwrap().count();
    // An ordinary user may not list the descriptors of its own init.
    let files = || fs::read_dir(format!("/proc/{init}/fd")).map(Iterator::count).ok();
    assert_eq!(files().is_some(), is_root());
    let before = (threads(), files());
    for _ in 0..3 {
        says(&container, &crate::common::sh("mkfifo p; ln -s / l; for i in 1 2 3 4 5 6 7 8 9; do : & done; wait"))
            .await;
        for path in ["p", "l", "l/usr", "none", "/proc/self/exe"] {
            container.read(path, 9).await.unwrap_err();
        }
        container.run(&Command::new("./none")).await.unwrap_err();
        container.run(crate::common::sh(":").current_dir("/none")).await.unwrap_err();
        container.reset().await.unwrap();
    }
    // The init frees what a reset removes after it answers.
    assert_well(&container).await;
    assert_eq!((threads(), files()), before);
    assert_eq!(before.0, 1);
}
