//! The figures of a report, compared with other measurements, and how far runs overshoot limits.

use std::time::Instant;

use cellblock::{
    limits::{Form, Limit},
    report::Cause,
};

use super::*;

/// The allowance for each busy CPU: a scheduler tick of the slowest kernels.
const TICK: Duration = Duration::from_millis(10);

/// What each CPU may have charged in advance before a run and returned during it.
const BATCHES: u64 = MIB;

#[tokio::test]
async fn a_run_overshoots_its_cpu_time_limit_by_a_tick_for_each_cpu_at_most() {
    let container = container().await;
    let has_groups = groups(&container).await.is_some();
    let cpus = std::thread::available_parallelism().unwrap().get() as u32;
    for what in ["spin", "threads 8", "grandchild"] {
        let limit = millis(500);
        let report = run(&container, &hog(what, limits().cpu_time(limit))).await;
        let used = report.usage.cpu.unwrap();
        assert!(used >= limit && report.cause == Cause::Limit(Limit::CpuTime), "{report}");
        assert_eq!(report.evidence.cpu_overshoot, Some(used - limit).filter(|it| !it.is_zero()), "{report}");
        // The times of processes come in hundredths of a second, each up to a hundredth late.
        let allowed = if has_groups { TICK * cpus + millis(1) } else { millis(100) };
        assert!(is_slow() || used - limit <= allowed, "{what}: {report}");
    }
}

#[tokio::test]
async fn a_wall_time_limit_holds() {
    let container = container().await;
    for what in ["sleep", "stop", "stubborn"] {
        let start = Instant::now();
        let report = run(&container, &hog(what, limits().wall_time(millis(200)))).await;
        let wall = report.usage.wall.unwrap();
        assert!(wall >= millis(200) && wall <= start.elapsed(), "{report}");
        assert!(is_slow() || wall < millis(300), "{report}");
    }
}

#[tokio::test]
async fn cpu_time_agrees_with_the_programs_clock() {
    let container = container().await;
    groups(&container).await;
    let report = run(&container, &hog("burn 300", limits())).await;
    let (cpu, split) = (report.usage.cpu.unwrap(), report.usage.user.unwrap() + report.usage.system.unwrap());
    // The upper bound includes the time before the program reads its clock.
    assert!(is_slow() || (cpu >= millis(295) && cpu < millis(330)), "{report}");
    assert!(is_slow() || split.abs_diff(cpu) < millis(20), "wait4 and the group agree: {report}");
}

#[tokio::test]
async fn a_memory_peak_belongs_to_one_run() {
    let container = container().await;
    let Some(_) = groups(&container).await else {
        skip("the figures come from wait4(2)");
        return;
    };
    let peak = async |what: &str| run(&container, &hog(what, limits())).await.usage.memory_peak_bytes.unwrap();
    let large = peak("heap 100000000").await;
    assert!((100_000_000 - BATCHES..106_000_000).contains(&large), "{large}");
    let small = peak("exit 0").await;
    assert!(small < 4_000_000, "a peak does not carry over: {small}");
    // Pages in a tmpfs stay charged after the run, and must not count for the next run.
    let file = peak("file 30000000").await;
    assert!((30_000_000 - BATCHES..36_000_000).contains(&file), "{file}");
    let small = peak("exit 0").await;
    assert!(small < 4_000_000, "{small}");
    let error = container.run(&hog("exit 0", limits().memory(16 * MIB))).await;
    let refused = error.map(|report| report.verdict());
    assert!(
        refused.is_err() || refused.is_ok_and(|verdict| verdict != cellblock::Verdict::Ok),
        "pages left in the tmpfs count for the limit"
    );
    container.reset().await.unwrap();
    assert_eq!(run(&container, &hog("exit 0", limits().memory(16 * MIB))).await.verdict(), cellblock::Verdict::Ok);
}

#[tokio::test]
async fn a_peak_is_what_was_in_use_at_once_whatever_was_left_before() {
    let container = container().await;
    let Some(_) = groups(&container).await else { return };
    let peak = async |what: &str| {
        let report = run(&container, &hog(what, limits())).await;
        assert!(report.status.success(), "{what}: {report}");
        report.usage.memory_peak_bytes.unwrap()
    };
    assert!(peak("file 20971520").await >= 20 * MIB - BATCHES, "the control: the file is charged");
    let replaced = peak("replace 41943040").await;
    assert!((40 * MIB..44 * MIB).contains(&replaced), "the run removed what was left: {replaced}");
    for _ in 0..if is_slow() { 20 } else { 300 } {
        peak("exit 0").await;
    }
    let late = peak("heap 41943040").await;
    assert!((40 * MIB..44 * MIB).contains(&late), "after many runs: {late}");
}

#[tokio::test]
async fn a_full_group_never_kills_the_init() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return;
    }
    if std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux")) {
        lacks("a kernel that survives when a process is killed in the middle of its execution");
        return;
    }
    for _ in 0..20 {
        // Too little for the arguments, for the executable, or for the first page.
        for pages in [1, 8, 16, 32, 64] {
            let mut command = hog("exit 0", limits().memory(pages * 4096));
            command.arg("x".repeat(100_000));
            if let Ok(report) = container.run(&command).await {
                assert!(report.verdict() == cellblock::Verdict::Memory || report.status.success(), "{report}");
            }
            container.ping(Duration::from_secs(5)).await.unwrap();
        }
    }
    assert!(run(&container, &hog("exit 0", limits())).await.status.success());
}

#[tokio::test]
async fn processes_are_counted() {
    let container = container().await;
    let Some(_) = groups(&container).await else { return };
    let report = run(&container, &hog("exit 0", limits())).await;
    let Some(_) = report.usage.processes_peak else {
        skip("this kernel keeps no peak of processes");
        return;
    };
    assert_eq!(report.usage.processes_peak, Some(1), "{report}");
    let report = run(&container, &hog("sleepers 9", limits())).await;
    assert_eq!(report.usage.processes_peak, Some(9), "{report}");
    let report = run(&container, &hog("exit 0", limits())).await;
    assert_eq!(report.usage.processes_peak, Some(1), "a peak does not carry over: {report}");
    let report = run(&container, &hog("sleepers 9", limits().processes(4))).await;
    assert_eq!((report.usage.processes_peak, report.evidence.refused_forks), (Some(4), Some(5)), "{report}");
}

#[tokio::test]
async fn a_cpu_set_and_a_cpu_rate_hold() {
    let container = container().await;
    let first = "import os; print(sorted(os.sched_getaffinity(0)))";
    let mut command = crate::common::python(first);
    command.limits(limits().cpu_set([0]));
    assert_eq!(crate::common::says(&container, &command).await, "[0]");
    if groups(&container).await.is_none() {
        let error = container.run(&hog("exit 0", limits().cpu_rate(0.5))).await.unwrap_err();
        assert_eq!(error.kind(), cellblock::ErrorKind::Unsupported, "{error}");
        return;
    }
    let report = match container.run(&hog("burn 200", limits().cpu_rate(0.25))).await {
        Ok(report) => report,
        Err(error) => {
            assert_eq!(error.kind(), cellblock::ErrorKind::Unsupported, "{error}");
            return;
        }
    };
    assert!(report.usage.wall.unwrap() > millis(450) && report.evidence.throttled > Some(millis(200)), "{report}");
    let report = run(&container, &hog("burn 200", limits())).await;
    assert_eq!(report.evidence.throttled.unwrap_or_default(), Duration::ZERO, "a rate does not carry over: {report}");
}

#[tokio::test]
async fn a_limit_that_cannot_be_enforced_refuses_the_run() {
    let container = container().await;
    let has_groups = groups(&container).await.is_some();
    let strict = Limits::new().memory(64 * MIB).processes(16).cpu_time(millis(100));
    match container.run(&hog("exit 0", strict)).await {
        Ok(report) => {
            assert!(has_groups, "{report}");
            let form = report.limit(Limit::Memory).unwrap().form;
            assert!(matches!(form, Form::CgroupV1 | Form::CgroupV2), "{report}");
        }
        Err(error) => {
            assert!(!has_groups && error.kind() == cellblock::ErrorKind::Unsupported, "{error}");
            assert!(error.hint().is_some(), "{error}");
            let report = run(&container, &hog("exit 0", limits().memory(64 * MIB))).await;
            assert_eq!(report.limit(Limit::Memory).unwrap().form, Form::Rlimit, "{report}");
        }
    }
    for senseless in [Limits::new().memory(0), Limits::new().cpu_time(Duration::ZERO), Limits::new().cpu_rate(f64::NAN)]
    {
        let error = container.run(&hog("exit 0", senseless)).await.unwrap_err();
        assert_eq!(error.kind(), cellblock::ErrorKind::InvalidInput, "{error}");
    }
}

#[tokio::test]
async fn figures_agree_with_getrusage() {
    let container = container().await;
    groups(&container).await;
    // A parent that waits for its children and prints what getrusage(2) says of both.
    let script = "import os, resource, time
for _ in range(3):
    if os.fork() == 0:
        while time.process_time() < 0.1: pass
        os._exit(0)
    os.wait()
both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(it.ru_utime + it.ru_stime for it in both), max(it.ru_maxrss for it in both) * 1024)";
    let mut command = crate::common::python(script);
    command.limits(limits());
    let output = container.output(&command).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (cpu, resident) = said.trim().split_once(' ').unwrap();
    let (cpu, resident) = (Duration::from_secs_f64(cpu.parse().unwrap()), resident.parse::<u64>().unwrap());
    let usage = output.report.usage;
    // The program uses more after it reads the figures.
    assert!(usage.cpu.unwrap() >= cpu.saturating_sub(millis(10)), "{cpu:?}: {}", output.report);
    assert!(is_slow() || usage.cpu.unwrap() < cpu + millis(30), "{cpu:?}: {}", output.report);
    if output.report.sources.memory_peak == Source::Wait4 {
        assert!(usage.memory_peak_bytes.unwrap() >= resident, "{resident}: {}", output.report);
    }
}

#[tokio::test]
async fn figures_agree_with_the_files_of_the_group() {
    let container = container().await;
    let Some(source) = groups(&container).await else { return };
    let mark = format!("mark{}", std::process::id());
    let mut command = hog(&format!("hold 50000000 {mark}"), limits());
    command.stdout(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    tokio::io::AsyncReadExt::read_exact(process.stdout.as_mut().unwrap(), &mut [0; 5]).await.unwrap();
    let pid = crate::common::processes_with(&mark)[0];
    let lines = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let (mount, key, file) = match source {
        Source::CgroupV1 => ("/sys/fs/cgroup/memory", "memory:", "memory.max_usage_in_bytes"),
        _ => ("/sys/fs/cgroup", "0::", "memory.peak"),
    };
    let own = lines.lines().find_map(|line| line.split_once(key)).unwrap().1;
    let peak: u64 = std::fs::read_to_string(format!("{mount}{own}/{file}")).unwrap().trim().parse().unwrap();
    let report = process.kill().await.unwrap();
    assert!(peak > 50_000_000 && peak.abs_diff(report.usage.memory_peak_bytes.unwrap()) < BATCHES, "{peak}: {report}");
}
