//! Lifetime: what a run has started ends with it, and what a host has started ends with the host.

use std::time::Instant;

use cellblock::{
    ErrorKind, Limits, Stdio,
    limits::Limit,
    report::{Cause, Status},
};
use tokio::io::AsyncReadExt;

use super::*;
use crate::common::{Machine, another_host, builder, eventually, machine, processes_with, read_up_to, sh, skip};

#[tokio::test]
async fn a_daemon_is_dead_before_the_report_comes() {
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
        assert_eq!(first, second, "nobody writes any more");
        container.reset().await.unwrap();
    }
    let watch = "size = os.path.getsize('/tmp/written')
while os.path.getsize('/tmp/written') == size: pass
print('it grows')";
    assert_eq!(says(&container, &python(&format!("{daemon}\n{watch}"))).await, "it grows", "the control");
}

#[tokio::test]
async fn an_output_ends_with_the_run_whoever_holds_it() {
    let container = container().await;
    let start = Instant::now();
    let output = container.output(&sh("setsid sh -c 'setsid sleep 60 & sleep 60' & echo said")).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.report.status), (&b"said\n"[..], Status::Exited(0)));
    assert!(start.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn everything_is_dead_soon_after_the_host_was_killed() {
    let mark = format!("orphaned{}", std::process::id());
    let mut host = another_host(&mark, &[]).spawn().unwrap();
    read_up_to("running", &mut host);
    eventually("a program and its daemon run", || processes_with(&mark).len() >= 3).await;
    host.kill().unwrap();
    let start = Instant::now();
    host.wait().unwrap();
    // The mark is in the role's variable and the programs' arguments.
    eventually("they are dead", || processes_with(&mark).is_empty()).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// The other host's part of the test above.
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

/// What a group owes of CPU time is not waited for: it was minutes, once, for each second that a process had been in the kernel.
#[tokio::test]
async fn a_cpu_rate_does_not_keep_what_is_killed_alive() {
    let container = container().await;
    let limits = Limits::new().cpu_rate(0.05).wall_time(SECOND);
    let report = match container.run(attacks().command(&["hang", "debt"]).limits(limits)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return skip("nobody holds a CPU rate here"),
        report => report.unwrap(),
    };
    assert_eq!(report.cause, Cause::Limit(Limit::WallTime), "{report}");
    assert!(report.evidence.throttled.unwrap() > Duration::from_millis(100), "the control: {report}");
    let took = report.usage.wall.unwrap();
    assert!(took < 4 * SECOND, "20 s would have to be paid: {took:?}");
    // The next run has its own rate.
    let limits = Limits::new().cpu_rate(0.2).wall_time(SECOND);
    let report = container.run(python("while True: pass").limits(limits)).await.unwrap();
    assert!(report.usage.cpu.unwrap() < SECOND / 2, "{report}");
}

#[tokio::test]
async fn no_core_is_dumped_whatever_a_program_allows_itself() {
    let container = container().await;
    // The pattern is the host's, and may name a program of the host's: to that goes what the filter lets through.
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
async fn no_program_of_the_hosts_is_started_for_a_crash() {
    if machine() != Machine::Throwaway {
        skip("what the kernel starts for a crash is set for a whole machine");
        return;
    }
    // As tests/vm/inside has set it. Who crashes is dead only when that program has ended.
    let is_told = |name: &str| std::path::Path::new("/run/cores").join(name).exists();
    HostCommand::new(&attacks().path).args(["crash", "outside"]).status().unwrap();
    assert!(is_told("outside"), "the control");
    let report = container().await.run(&attacks().command(&["crash", "inside"])).await.unwrap();
    assert!(!is_told("inside"), "{report}");
    assert_eq!(report.status, Status::Signaled { signal: libc::SIGABRT, core_dumped: false });
}
