//! Resources: what a run takes is counted and limited, and other containers keep their share.

use std::io::{BufRead, BufReader};
use std::process::Stdio as HostStdio;
use std::time::Instant;

use cellblock::{Limits, Stdio, Verdict, report::Source, seccomp::Filter};
use tokio::io::AsyncReadExt;

use super::*;
use crate::common::{builder, has_own_ids, lacks, skip};

/// Starts a program that takes as much of a quota as it can and holds it. Returns the amount too.
async fn taken(container: &Container, what: &str) -> (cellblock::Process, u64) {
    let mut process = container.spawn(attacks().command(&["take", what]).stdout(Stdio::piped())).await.unwrap();
    let mut said = [0; 64];
    let count = process.stdout.as_mut().unwrap().read(&mut said).await.unwrap();
    let said = String::from_utf8_lossy(&said[..count]).into_owned();
    (process, said.trim().rsplit_once(' ').unwrap().1.parse().unwrap())
}

/// Quotas that the kernel also counts for the user who made the namespace: the user of the host,
/// which all containers share. Contexts of asynchronous I/O are counted for the machine.
#[tokio::test]
async fn one_container_leaves_the_others_their_share_of_the_users_quotas() {
    let host = |what: &str| {
        let mut process =
            HostCommand::new(&attacks().path).args(["take", what]).stdout(HostStdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        said.trim().rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    for (what, share) in [("inotify", 0), ("queues", 0), ("aio contexts", 0), ("signals", 64), ("timers", 64)] {
        let (one, other) = (container().await, container().await);
        let (mut greedy, first) = taken(&one, what).await;
        let (mut next, second) = taken(&other, what).await;
        assert_eq!((first, second), (share, share), "{what}");
        assert!(host(what) > share, "{what}: the control: the host still gets some");
        greedy.kill().await.unwrap();
        next.kill().await.unwrap();
        let (mut again, third) = taken(&one, what).await;
        assert_eq!(third, share, "{what}: the kernel gave it back");
        again.kill().await.unwrap();
    }
}

#[tokio::test]
async fn processes_are_limited_with_and_without_groups() {
    let container = container().await;
    let mut forks = python(
        "import os, signal
count = 0
try:
    while count < 300:
        if os.fork() == 0: signal.pause()
        count += 1
except BlockingIOError: pass
print(count)",
    );
    assert_eq!(says(&container, &forks).await, "255", "with the first");
    assert_eq!(says(&container, forks.limits(Limits::new().processes(u32::MAX))).await, "300", "the control");
}

/// Without control groups the kernel shares processor time out by sessions.
#[tokio::test]
async fn many_sessions_get_no_more_processor_time_than_one() {
    let (one, other) = (container().await, container().await);
    let busy = |how| {
        let mut command = attacks().command(&["hang", how]);
        command.stdout(Stdio::piped());
        command
    };
    let mut times = Vec::new();
    for how in ["leader", "sessions"] {
        let mut process = one.spawn(&busy(how)).await.unwrap();
        process.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).await.unwrap();
        let start = Instant::now();
        for _ in 0..5 {
            says(&other, &python("sum(range(1000000)); print()")).await;
        }
        times.push(start.elapsed());
        let report = process.kill().await.unwrap();
        if report.sources.cpu == Source::Wait4 {
            return skip("without groups many sessions get more");
        }
    }
    assert!(times[1] < 4 * times[0] + SECOND, "{times:?}");
}

#[tokio::test]
async fn pipes_are_counted_for_the_containers_user() {
    let (one, other) = (container().await, container().await);
    let (mut greedy, first) = taken(&one, "pipes").await;
    let (mut next, second) = taken(&other, "pipes").await;
    // Containers that share the host's user share the quota, and the second gets small pipes.
    // SECURITY.md says so.
    assert_eq!((first > 4000, second > 4000), (true, has_own_ids()), "{first} {second}");
    greedy.kill().await.unwrap();
    next.kill().await.unwrap();
}

#[tokio::test]
async fn memory_behind_descriptors_is_counted() {
    let container = container().await;
    let fill = |what: &str, memory| {
        let mut command = attacks().command(&["fill", what]);
        command.limits(Limits::new().memory(memory).allow_weaker(true).wall_time(20 * SECOND));
        command
    };
    let report = container.run(&Command::new("/bin/true")).await.unwrap();
    let has_groups = report.sources.memory_peak != Source::Wait4;
    for what in ["pipes", "sockets"] {
        let verdict = if has_groups { Verdict::Memory } else { Verdict::Ok };
        let report = container.run(&fill(what, 32 << 20)).await.unwrap();
        assert_eq!(report.verdict(), verdict, "{what}: {report}");
        let control = container.output(&fill(what, 1 << 30)).await.unwrap();
        assert_eq!(control.report.verdict(), Verdict::Ok, "{what}: {}", control.report);
    }
    // The filter refuses memory that the kernel does not count.
    assert_eq!(says(&container, &fill("netlink", 32 << 20)).await, "netlink 0");
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    let said = says(&unfiltered, &fill("netlink", 32 << 20)).await;
    let mib: u64 = said.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!(mib > 64, "the control: {mib} MiB within a limit of 32");
}

#[tokio::test]
async fn a_program_cannot_take_memory_by_access_control_lists() {
    let mut attack = attacks().command(&["list"]);
    attack.limits(Limits::new().memory(32 << 20).allow_weaker(true));
    assert_eq!(says(&container().await, &attack).await, "lists 0");
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    let mib: u64 = says(&unfiltered, &attack).await.rsplit_once(' ').unwrap().1.parse().unwrap();
    match mib {
        0 => lacks("access control lists in a tmpfs"),
        // The kernel's form of a list is larger by a half.
        mib => assert!(mib > 64, "the control: {mib} MiB within a limit of 32"),
    }
}

#[tokio::test]
async fn a_program_cannot_raise_its_priority() {
    let container = container().await;
    let attack = python(
        "import os, resource
for attempt in (lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), lambda: os.nice(-1),
                lambda: resource.setrlimit(resource.RLIMIT_RTPRIO, (1, 1)), lambda: resource.setrlimit(13, (21, 21))):
    try: attempt(); print('works')
    except (OSError, ValueError) as error: pass
os.nice(1); print('slower')",
    );
    assert_eq!(says(&container, &attack).await, "slower");
}
