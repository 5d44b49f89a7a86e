//! Verdicts: programs that exceed a limit, and programs that stay just below it.

use cellblock::Verdict::{self, *};
use cellblock::{Mount, limits::Limit, report::Cause, seccomp::Filter};

use super::*;

/// A program, its limits, its verdict with control groups, and its verdict without them.
type Case = (&'static str, Limits, Verdict, Verdict);

fn cases() -> Vec<Case> {
    let cpu = |time| limits().cpu_time(millis(time));
    let wall = || limits().wall_time(millis(300));
    let memory = || limits().memory(64 * MIB);
    vec![
        ("exit 0", limits(), Ok, Ok),
        ("exit 3", limits(), NonzeroExit, NonzeroExit),
        ("raise 11", limits(), Signaled, Signaled),
        ("raise 9", cpu(5000), Signaled, Signaled),
        ("raise 24", limits(), Signaled, Signaled),
        ("spin", cpu(200), CpuTime, CpuTime),
        ("threads 8", cpu(300), CpuTime, CpuTime),
        ("grandchild", cpu(200), CpuTime, CpuTime),
        ("children", cpu(300), CpuTime, CpuTime),
        ("burn 150", cpu(1000), Ok, Ok),
        ("sleep", wall(), WallTime, WallTime),
        ("stop", wall(), WallTime, WallTime),
        ("stubborn", wall(), WallTime, WallTime),
        ("spin", wall(), WallTime, WallTime),
        ("grandchild", wall(), WallTime, WallTime),
        // Without groups refused forks are not counted, and only the time is seen.
        ("forks", limits().cpu_time(millis(500)).processes(16), Processes, CpuTime),
        ("orphans 1000", limits().processes(16), Ok, Ok),
        ("heap 67112960", memory(), Memory, NonzeroExit),
        ("heap 62914560", memory(), Ok, Ok),
        ("child 134217728", memory(), Memory, Ok),
        ("reserve 107374182400", limits().memory(64 * MIB).address_space(u64::MAX), Ok, NonzeroExit),
        ("flood 1048576", limits().output(MIB / 2), Output, Output),
        ("flood 1048576", limits().output(MIB), Ok, Ok),
        ("file 67108864", limits().file_size(MIB), Output, Output),
        ("file 1048576", limits().file_size(MIB), Ok, Ok),
        ("recurse", limits().stack(MIB), Signaled, Signaled),
    ]
}

/// Programs whose memory is charged only to control groups, with their verdicts.
fn charged_cases() -> Vec<(&'static str, Verdict)> {
    vec![
        ("shared 67112960", Memory),
        ("shared 62914560", Ok),
        ("memfd 67112960", Memory),
        ("memfd 62914560", Ok),
        ("file 67112960", Memory),
        ("file 62914560", Ok),
    ]
}

async fn check(container: &Container, what: &str, limits: &Limits, wanted: Verdict) {
    for round in 0..rounds() {
        container.reset().await.unwrap();
        let output = container.output(&hog(what, limits.clone())).await.unwrap();
        let report = output.report;
        assert_eq!(report.verdict(), wanted, "{what} under {limits:?}, round {round}:\n{report}");
        assert!(container.ping(Duration::from_secs(5)).await.is_ok(), "the init is unharmed by {what}");
    }
}

#[tokio::test]
async fn each_program_gets_its_verdict() {
    let container = container().await;
    let has_groups = groups(&container).await.is_some();
    for (what, limits, grouped, weaker) in cases() {
        check(&container, what, &limits, if has_groups { grouped } else { weaker }).await;
    }
}

#[tokio::test]
async fn all_memory_that_the_kernel_charges_counts() {
    let tmpfs = cellblock::mount::Tmpfs::new().bytes(256 * MIB);
    let container = builder().mount(Mount::tmpfs("/w", tmpfs)).build().await.unwrap();
    if groups(&container).await.is_none() {
        skip("without groups this memory is not charged");
        return;
    }
    for (what, wanted) in charged_cases() {
        check(&container, what, &limits().memory(64 * MIB), wanted).await;
        // The control: a limit that is high enough.
        check(&container, what, &limits().memory(512 * MIB), Ok).await;
    }
}

#[tokio::test]
async fn a_run_with_infinite_limits_reports_no_limits() {
    let container = container().await;
    let all = Limits::new()
        .wall_time(Duration::MAX)
        .memory(u64::MAX)
        .processes(u32::MAX)
        .stack(u64::MAX)
        .open_files(u64::MAX)
        .cpu_time(Duration::MAX)
        .output(u64::MAX);
    // More memory than the default limit, except on a machine with little memory.
    let bytes = if is_slow() { 200_000_000 } else { 1_200_000_000 };
    let report = run(&container, &hog(&format!("heap {bytes}"), all)).await;
    assert_eq!((report.verdict(), report.limits.as_slice()), (Ok, &[][..]), "{report}");
}

#[tokio::test]
async fn a_forbidden_call_that_kills_is_a_verdict() {
    for (filter, verdict) in [(Filter::Denylist, NonzeroExit), (Filter::DenylistKill, ForbiddenSyscall)] {
        let container = builder().filter(filter).build().await.unwrap();
        // keyctl(2)
        let number = if cfg!(target_arch = "x86_64") { 250 } else { 219 };
        let report = run(&container, &hog(&format!("syscall {number}"), limits())).await;
        assert_eq!((report.verdict(), report.protections.filter), (verdict, filter), "{report}");
    }
    let container = builder().filter(Filter::Off).build().await.unwrap();
    let report = run(&container, &hog("syscall 39", limits())).await;
    assert_eq!((report.verdict(), report.protections.filter), (Ok, Filter::Off), "{report}");
}

#[tokio::test]
async fn a_requested_kill_is_not_a_limit() {
    let container = container().await;
    let mut process = container.spawn(&hog("sleep", limits())).await.unwrap();
    let report = process.kill().await.unwrap();
    assert_eq!((report.cause, report.verdict()), (Cause::Request, Signaled), "{report}");
    let report = run(&container, &hog("sleep", limits().wall_time(millis(50)))).await;
    assert_eq!(report.cause, Cause::Limit(Limit::WallTime));
}

#[tokio::test]
async fn an_output_limit_holds_for_every_kind_of_stdout() {
    use tokio::io::AsyncReadExt;
    let container = container().await;
    let mut command = hog("flood 1048576", limits().output(1000));
    command.stdout(cellblock::Stdio::piped()).stderr(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    let (mut stdout, mut read) = (process.stdout.take().unwrap(), Vec::new());
    stdout.read_to_end(&mut read).await.unwrap();
    assert_eq!((read.len(), stdout.is_cut()), (1000, true), "output within the limit is read");
    assert_eq!(process.wait().await.unwrap().verdict(), Output);
    let output = container.output(&hog("flood 1048576", limits().output(1000))).await.unwrap();
    assert_eq!((output.stdout.len(), output.stdout_truncated), (1000, true));
    // The library does not read the output to a file, so only the weaker form is possible.
    let file = tempfile::tempfile().unwrap();
    let mut command = hog("flood 1048576", limits().output(1000).allow_weaker(false));
    command.stdout(file.try_clone().unwrap());
    let error = container.run(&command).await.unwrap_err();
    assert_eq!(error.kind(), cellblock::ErrorKind::Unsupported, "{error}");
    command.limits(limits().output(1000));
    assert_eq!(run(&container, &command).await.verdict(), Output);
    assert_eq!(file.metadata().unwrap().len(), 1000);
}

#[tokio::test]
async fn a_command_may_restrict_its_system_calls() {
    use cellblock::seccomp::{DefaultAction, Syscalls};
    let container = container().await;
    let with = |mut command: Command, syscalls: Syscalls| {
        command.syscalls(syscalls).limits(limits());
        command
    };
    // Programs that only compute run.
    for mut computes in [hog("burn 20", limits()), hog("heap 1000000", limits()), crate::common::python("print(6 * 7)")]
    {
        computes.syscalls(Syscalls::strict());
        let report = run(&container, &computes).await;
        assert_eq!(report.verdict(), Ok, "{computes:?}: {report}");
        assert!(report.protections.syscalls, "{report}");
    }
    for (what, control) in [("threads 2", CpuTime), ("forks", Processes)] {
        let limits = || limits().cpu_time(millis(200)).processes(8);
        let report = run(&container, &hog(what, limits()).syscalls(Syscalls::strict()).clone()).await;
        assert_eq!(report.verdict(), ForbiddenSyscall, "{what}: {report}");
        let without = run(&container, &hog(what, limits())).await;
        assert!([control, CpuTime].contains(&without.verdict()), "the control: {without}");
    }
    // A list of the test's own with an errno: the forbidden call returns it.
    let number = if cfg!(target_arch = "x86_64") { 110 } else { 173 };
    let getppid = format!("syscall {number}");
    let all = [
        "execveat",
        "exit_group",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "openat",
        "close",
        "read",
        "pread64",
        "newfstatat",
    ];
    let more =
        ["fstat", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom", "access"];
    let own = all.into_iter().chain(more);
    let own = own.filter(|name| cfg!(target_arch = "x86_64") || !["arch_prctl", "access"].contains(name));
    let only = Syscalls::only(own, DefaultAction::Errno(77)).unwrap();
    let report = run(&container, &with(hog(&getppid, limits()), only)).await;
    assert_eq!(report.status, cellblock::report::Status::Exited(77), "{report}");
    assert_eq!(run(&container, &hog(&getppid, limits())).await.verdict(), Ok, "the control");
    let error = Syscalls::only(["no_such_call"], DefaultAction::Kill).unwrap_err();
    assert_eq!(error.kind(), cellblock::ErrorKind::InvalidInput);
    // A BPF program that allows everything. An invalid one is an error: the run does not start
    // unfiltered.
    let allow = Syscalls::bpf([(0x06, 0, 0, 0x7fff_0000)]);
    assert_eq!(run(&container, &with(hog("exit 0", limits()), allow)).await.verdict(), Ok);
    let error = container.run(&with(hog("exit 0", limits()), Syscalls::bpf([(0x06, 9, 9, 9), (0, 0, 0, 0)]))).await;
    assert_eq!(error.unwrap_err().step(), Some("install_filter"));
}
