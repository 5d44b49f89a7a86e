//! Each run has its own limits, figures and verdict.

use std::time::Duration;

use cellblock::report::{Cause, Source};
use cellblock::{Command, Limits, Report, Verdict, limits::Limit};
use tokio::join;

use crate::common::{container, lacks_groups, python, sh};
use crate::{kill_running, millis, sleeper};

const MIB: u64 = 1 << 20;

fn limits() -> Limits {
    Limits::new().allow_weaker(true).wall_time(millis(30_000))
}

fn with(mut command: Command, limits: Limits) -> Command {
    command.limits(limits);
    command
}

fn sleep(count: u64) -> Command {
    sh(&format!("exec sleep {}", millis(count).as_secs_f32()))
}

/// Takes memory until it is killed.
fn glutton() -> Command {
    python("a = []\nwhile True: a.append(bytearray(1 << 20))")
}

/// Burns CPU time in a process that it leaves behind.
fn burner() -> Command {
    sh("(setsid sh -c 'while :; do :; done' &) ; sleep 1000")
}

#[tokio::test]
async fn a_run_that_is_out_of_memory_hurts_no_other() {
    let container = container().await;
    let has_groups = container.run(&sh("true")).await.unwrap().sources.memory_peak != Source::Wait4;
    if !has_groups {
        lacks_groups();
        return;
    }
    let small = limits().memory(32 * MIB);
    let main = sleeper(&container).await;
    let other = main.beside().spawn(with(sh("sleep 1000"), small.clone())).await.unwrap();
    let report = main.beside().run(with(glutton(), small.clone())).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Memory, "{report}");
    assert!(report.usage.memory_peak_bytes.unwrap() > 30 * MIB, "{report}");
    for report in [kill_running(other).await, kill_running(main).await] {
        assert_eq!(report.verdict(), Verdict::Signaled, "{report}");
        assert!(report.evidence.oom_kills == Some(0) && report.usage.memory_peak_bytes.unwrap() < 16 * MIB, "{report}");
    }

    // The other way round: the main run ends, and the one beside it is no culprit.
    let mut main = container
        .spawn(&with(sh("sleep 0.3; exec python3 -Sc 'bytearray(1 << 28)[::4096] = b\"x\" * (1 << 16)'"), small))
        .await
        .unwrap();
    let mut beside = main.beside().spawn(with(sh("sleep 1000"), limits())).await.unwrap();
    let (main, beside) = join!(main.wait(), beside.wait());
    let (main, beside) = (main.unwrap(), beside.unwrap());
    assert_eq!(main.verdict(), Verdict::Memory, "{main}");
    assert_eq!((beside.cause, beside.evidence.oom_kills), (Cause::MainEnded, Some(0)), "{beside}");
}

#[tokio::test]
async fn the_time_of_one_run_counts_for_no_other() {
    let container = container().await;
    let a_little = millis(300);
    // The main run burns, and the one beside it has a limit of CPU time.
    let main = container.spawn(&with(burner(), limits())).await.unwrap();
    let idle = main.beside().run(with(sleep(1000), limits().cpu_time(a_little))).await.unwrap();
    assert_eq!(idle.verdict(), Verdict::Ok, "{idle}");
    let late = main.beside().run(with(sh("sleep 1000"), limits().wall_time(a_little))).await.unwrap();
    assert_eq!((late.verdict(), late.cause), (Verdict::WallTime, Cause::Limit(Limit::WallTime)), "{late}");
    let burnt = main.beside().run(with(burner(), limits().cpu_time(a_little))).await.unwrap();
    assert_eq!((burnt.verdict(), burnt.cause), (Verdict::CpuTime, Cause::Limit(Limit::CpuTime)), "{burnt}");
    assert!(burnt.usage.cpu.unwrap() >= a_little, "what its orphan has used counts: {burnt}");
    let main = kill_running(main).await;
    assert!(main.usage.cpu.unwrap() > a_little, "the control: it has burnt meanwhile: {main}");

    // The other way round.
    let mut main = container.spawn(&with(sleep(1500), limits().cpu_time(a_little))).await.unwrap();
    let mut beside = main.beside().spawn(with(burner(), limits())).await.unwrap();
    let main = main.wait().await.unwrap();
    assert_eq!(main.verdict(), Verdict::Ok, "{main}");
    assert_eq!(beside.wait().await.unwrap().cause, Cause::MainEnded);
    let mut main = container.spawn(&with(burner(), limits().cpu_time(a_little))).await.unwrap();
    let mut beside = main.beside().spawn(with(sh("sleep 1000"), limits().cpu_time(a_little))).await.unwrap();
    let (main, beside) = join!(main.wait(), beside.wait());
    assert_eq!(main.unwrap().verdict(), Verdict::CpuTime);
    assert_eq!(beside.unwrap().cause, Cause::MainEnded);
}

/// The CPU time from wait4(2), of the processes that the init has reaped for the run.
fn of_processes(report: &Report) -> Duration {
    report.usage.user.unwrap() + report.usage.system.unwrap()
}

#[tokio::test]
async fn a_process_made_for_the_parent_counts_for_its_run() {
    // CLONE_PARENT makes a child of the init, in the pid namespace of the run.
    const CLONE: &str = "
import ctypes, os, platform, time
done, write = os.pipe()
clone = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
if ctypes.CDLL(None).syscall(clone, 0x8000 | 17, 0, 0, 0, 0) == 0:
    end = time.process_time() + 0.5
    while time.process_time() < end: pass
    os._exit(0)
os.close(write)
os.read(done, 1)
time.sleep(0.1)
";
    let container = container().await;
    let main = sleeper(&container).await;
    let report = main.beside().run(with(python(CLONE), limits())).await.unwrap();
    assert!(report.status.success() && of_processes(&report) >= Duration::from_millis(400), "{report}");
    let main = kill_running(main).await;
    assert!(of_processes(&main) < Duration::from_millis(300), "{main}");
    let control = container.run(&with(python(CLONE), limits())).await.unwrap();
    assert!(of_processes(&control) >= Duration::from_millis(400), "{control}");
}

#[tokio::test]
async fn ten_runs_each_have_their_own_limits() {
    let container = container().await;
    let main = sleeper(&container).await;
    let run = async |number: u64| {
        let limits =
            limits().wall_time(millis(100 + 50 * number)).processes(10 + number as u32).open_files(32 + number);
        let limits = if number.is_multiple_of(2) { limits } else { limits.output(1000) };
        main.beside().output(with(sh("ulimit -n; exec sleep 1000"), limits)).await.unwrap()
    };
    let outputs = futures::future::join_all((0..10).map(run)).await;
    for (number, output) in (0..).zip(outputs) {
        let report = output.report;
        assert_eq!(output.stdout, format!("{}\n", 32 + number).into_bytes());
        assert_eq!(report.verdict(), Verdict::WallTime, "{report}");
        assert_eq!(report.limit(Limit::Processes).unwrap().value, 10 + number);
        assert!(report.usage.wall.unwrap() >= millis(100 + 50 * number), "{report}");
        assert_eq!(report.evidence.output_exceeded, (number % 2 == 1).then_some(false));
    }
    kill_running(main).await;
}

#[tokio::test]
async fn a_throttled_run_beside_another_one_dies_at_once() {
    let container = container().await;
    let main = sleeper(&container).await;
    let limits = limits().cpu_rate(0.05);
    let spawned = main.beside().spawn(with(sh("while :; do :; done"), limits)).await;
    let mut beside = match spawned {
        Err(error) => {
            assert_eq!(error.kind(), cellblock::ErrorKind::Unsupported);
            return lacks_groups();
        }
        Ok(beside) => beside,
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let start = std::time::Instant::now();
    let report = beside.kill().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(report.evidence.throttled.unwrap() > Duration::from_millis(100), "{report}");
    kill_running(main).await;
}
