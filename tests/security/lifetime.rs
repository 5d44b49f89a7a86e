//! Lifetime: all processes of a run end with it, and all processes of a host end with the host.

use std::time::Instant;

use cellblock::{
    ErrorKind, Limits, Stdio,
    limits::Limit,
    report::{Cause, Status},
};
use tokio::io::AsyncReadExt;

use super::*;
use crate::common::{
    Machine, another_host, builder, eventually, is_slow, machine, processes_with, read_up_to, sh, skip,
};

#[tokio::test]
async fn a_daemon_is_dead_before_the_report_arrives() {
    let container = container().await;
    let daemon = "import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        it = open('/tmp/written', 'ab', 0)
        while True: it.write(b'x' * 100)
    os._exit(0)
os.wait()
while not os.path.exists('/tmp/written'): time.sleep(0.001)";
    for _ in 0..5 {
        says(&container, &python(daemon)).await;
        let size = sh("stat -c %s /tmp/written; stat -c %s /tmp/written");
        let (first, second) = (says(&container, &size).await, says(&container, &size).await);
        assert_eq!(first, second, "the daemon no longer writes");
        container.reset().await.unwrap();
    }
    let watch = "size = os.path.getsize('/tmp/written')
while os.path.getsize('/tmp/written') == size: pass
print('it grows')";
    assert_eq!(says(&container, &python(&format!("{daemon}\n{watch}"))).await, "it grows", "the control");
}

#[tokio::test]
async fn an_output_ends_with_the_run_even_if_a_process_holds_it() {
    let container = container().await;
    let start = Instant::now();
    let output = container.output(&sh("setsid sh -c 'setsid sleep 60 & sleep 60' & echo said")).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.report.status), (&b"said\n"[..], Status::Exited(0)));
    assert!(start.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn all_processes_die_soon_after_their_host_is_killed() {
    let mark = format!("orphaned{}", std::process::id());
    let mut host = another_host(&mark, &[]).spawn().unwrap();
    read_up_to("running", &mut host);
    eventually("a program and its daemon run", || processes_with(&mark).len() >= 3).await;
    host.kill().unwrap();
    let start = Instant::now();
    host.wait().unwrap();
    // The command lines of the programs contain the mark.
    eventually("they are dead", || processes_with(&mark).is_empty()).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// The part of the other process in the test above.
pub(super) fn play() {
    let mark = std::env::var(crate::common::ROLE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let container = builder().build().await.unwrap();
        let script = format!(
            "(trap '' HUP TERM; setsid sh -c 'sleep 60; : {mark}') & (sleep 60; : {mark}) & echo; wait # {mark}"
        );
        let mut process = container.spawn(sh(&script).stdout(Stdio::piped())).await.unwrap();
        process.stdout.as_mut().unwrap().read_exact(&mut [0]).await.unwrap();
        println!("running");
        process.wait().await.unwrap();
    });
}

/// A killed run does not wait until its group has paid for its CPU time. That once took minutes for
/// each second that a process had spent in the kernel.
#[tokio::test]
async fn a_cpu_rate_does_not_delay_a_kill() {
    let container = container().await;
    let limits = Limits::new().cpu_rate(0.05).wall_time(SECOND);
    let report = match container.run(attacks().command(&["hang", "debt"]).limits(limits)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return skip("this machine has no CPU rate"),
        report => report.unwrap(),
    };
    assert_eq!(report.cause, Cause::Limit(Limit::WallTime), "{report}");
    assert!(report.evidence.throttled.unwrap() > Duration::from_millis(100), "the control: {report}");
    let took = report.usage.wall.unwrap();
    assert!(took < 4 * SECOND, "20 s would have to be paid: {took:?}");
    // The next run has a rate of its own.
    let limits = Limits::new().cpu_rate(0.2).wall_time(SECOND);
    let report = container.run(python("while True: pass").limits(limits)).await.unwrap();
    assert!(report.usage.cpu.unwrap() < SECOND / 2, "{report}");
}

/// Orphans that make the next one and exit: on a machine with many processors they end as fast as
/// the init reaps them, and it never finds that none has ended.
#[tokio::test]
async fn orphans_that_die_without_end_do_not_delay_a_deadline() {
    let container = container().await;
    let orphans = |how| attacks().command(&["hang", how]);
    let limits = |time: Duration| Limits::new().wall_time(time).processes(1000).allow_weaker(true);
    let time = Duration::from_millis(if is_slow() { 1500 } else { 300 });
    let at_once = SECOND * if is_slow() { 10 } else { 2 };
    for _ in 0..3 {
        let report = container.run(orphans("orphans").limits(limits(time))).await.unwrap();
        assert_eq!(report.cause, Cause::Limit(Limit::WallTime), "{report}");
        let late = report.usage.wall.unwrap() - time;
        assert!(late < time / 2, "{late:?} {report}");
        // Their program has ended, so they are killed at once. An emulated machine takes seconds to
        // kill and reap hundreds of them.
        let report = container.run(orphans("orphans left").limits(limits(20 * SECOND))).await.unwrap();
        assert_eq!(report.status, Status::Exited(0), "{report}");
        assert!(report.usage.wall.unwrap() < at_once, "{report}");
    }
    // The control: they go on by themselves.
    let mut process = container.spawn(orphans("orphans").limits(limits(20 * SECOND))).await.unwrap();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    while start.elapsed() < 3 * time {
        let before = Instant::now();
        container.ping(5 * SECOND).await.unwrap();
        slowest = slowest.max(before.elapsed());
    }
    assert!(process.try_wait().unwrap().is_none(), "the control");
    assert!(slowest < SECOND, "a ping took {slowest:?}");
    let before = Instant::now();
    container.ping(5 * SECOND).await.unwrap();
    process.kill().await.unwrap();
    assert!(before.elapsed() < SECOND, "{:?}", before.elapsed());
    assert_well(&container).await;
}

#[tokio::test]
async fn no_core_is_dumped_whatever_limit_a_program_sets() {
    let container = container().await;
    // The core pattern belongs to the host and may name a program of the host, which would get the
    // dump.
    let crash = "import os, resource
print(open('/proc/self/coredump_filter').read().strip())
for limit in (-1, 0): resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)
held = bytearray(50_000_000)
os.abort()";
    let output = container.output(python(crash).limits(Limits::new())).await.unwrap();
    assert!(matches!(output.report.status, Status::Signaled { signal: libc::SIGABRT, .. }), "{}", output.report.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "00000000\n(1, 1)\n");
    assert_eq!(says(&container, &sh("ls -A; cat /proc/self/coredump_filter")).await, "00000000");
    assert!(!container.run(&sh("echo 7f > /proc/self/coredump_filter")).await.unwrap().status.success());
    let own = fs::read_to_string("/proc/self/coredump_filter").unwrap();
    assert_ne!(own.trim(), "00000000", "the control: the host's own");
}

#[tokio::test]
async fn a_crash_starts_no_program_on_the_host() {
    if machine() != Machine::Throwaway {
        skip("the core pattern applies to the whole machine");
        return;
    }
    // tests/vm/inside sets the pattern. A crashed process is dead only once that program has ended.
    let is_told = |name: &str| std::path::Path::new("/run/cores").join(name).exists();
    HostCommand::new(&attacks().path).args(["crash", "outside"]).status().unwrap();
    assert!(is_told("outside"), "the control");
    let report = container().await.run(&attacks().command(&["crash", "inside"])).await.unwrap();
    assert!(!is_told("inside"), "{report}");
    assert_eq!(report.status, Status::Signaled { signal: libc::SIGABRT, core_dumped: false });
}
