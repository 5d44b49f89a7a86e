//! The table of the docs, and what holds whatever a report says.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{Form, Held, Limit};
use crate::seccomp::Filter;
use crate::wire::{CgroupVersion, GroupFigures, KillReason, Measurement, WaitStatus};

const KILLED: WaitStatus = WaitStatus::signaled(libc::SIGKILL, false);

fn limit() -> impl Strategy<Value = Held> {
    let limits = [Limit::CpuTime, Limit::WallTime, Limit::Memory, Limit::Processes, Limit::FileSize, Limit::Output];
    let forms = [Form::CgroupV1, Form::CgroupV2, Form::Rlimit, Form::Clock, Form::ProcessTimes, Form::Reader];
    let held = |(limit, value, form)| Held { limit, value, form };
    (prop::sample::select(limits.to_vec()), 1..100_u64, prop::sample::select(forms.to_vec())).prop_map(held)
}

fn status() -> impl Strategy<Value = WaitStatus> {
    let signal = prop::sample::select(vec![libc::SIGKILL, libc::SIGSEGV, libc::SIGXFSZ, libc::SIGXCPU, libc::SIGSYS]);
    let signaled = (signal, any::<bool>());
    prop_oneof![
        2 => Just(WaitStatus::exited(0)),
        1 => (1..256).prop_map(WaitStatus::exited),
        2 => signaled.prop_map(|(signal, core_dumped)| WaitStatus::signaled(signal, core_dumped)),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let reasons =
        [KillReason::CpuTime, KillReason::WallTime, KillReason::Output, KillReason::Request, KillReason::MainEnded];
    let killed = prop::option::of(prop::sample::select(reasons.to_vec()));
    let count = || prop::option::of(0..3_u64);
    let time = || prop::option::of(0..100_u64);
    let filter = prop::sample::select(vec![Filter::Denylist, Filter::DenylistKill, Filter::Off]);
    let measured = (status(), killed, time(), time(), count(), count(), prop::option::of(any::<bool>()));
    (measured, prop::collection::vec(limit(), 0..4), filter, any::<bool>(), any::<bool>()).prop_map(
        |(
            (status, killed, cpu, wall, oom_kills, refused_forks, output_exceeded),
            limits,
            filter,
            syscalls,
            own_ids,
        )| {
            let measured = Measurement {
                killed,
                wall_us: wall.unwrap_or(0),
                user_us: cpu.unwrap_or(0),
                group: Some(GroupFigures { oom_kills, refused_forks, ..no_figures() }),
                ..Measurement::of(status)
            };
            let protections = Protections { syscalls, ..Protections::new(filter, own_ids, true) };
            let mut report = Report::new(measured, limits, protections);
            report.usage.cpu = cpu.map(Duration::from_micros);
            report.usage.wall = wall.map(Duration::from_micros);
            report.evidence.output_exceeded = output_exceeded;
            report
        },
    )
}

fn no_figures() -> GroupFigures {
    GroupFigures {
        version: CgroupVersion::V1,
        cpu_us: None,
        memory_peak_bytes: None,
        processes_peak: None,
        oom_kills: None,
        refused_forks: None,
        throttled_us: None,
    }
}

/// Every verdict that some line of the table gives, in its order.
fn lines(report: &Report) -> Vec<Verdict> {
    let signal = |number| matches!(report.status, Status::Signaled { signal, .. } if signal == number);
    let held = |limit| report.limits.iter().find(|held| held.limit == limit);
    let over = |used: Option<Duration>, limit| {
        held(limit).is_some_and(|held| used.is_some_and(|used| used > Duration::from_micros(held.value)))
    };
    let weak = held(Limit::CpuTime).is_some_and(|held| held.form == Form::ProcessTimes);
    let may_kill = report.protections.filter == Filter::DenylistKill || report.protections.syscalls;
    let table = [
        (Verdict::Output, report.cause == Cause::Limit(Limit::Output)),
        (Verdict::Output, report.evidence.output_exceeded == Some(true)),
        (Verdict::Output, signal(libc::SIGXFSZ) && (held(Limit::Output).is_some() || held(Limit::FileSize).is_some())),
        (Verdict::ForbiddenSyscall, signal(libc::SIGSYS) && may_kill),
        (Verdict::Memory, report.evidence.oom_kills.unwrap_or(0) > 0),
        (Verdict::Processes, report.evidence.refused_forks.unwrap_or(0) > 0 && report.status != Status::Exited(0)),
        (Verdict::CpuTime, report.cause == Cause::Limit(Limit::CpuTime)),
        (Verdict::CpuTime, over(report.usage.cpu, Limit::CpuTime)),
        (Verdict::CpuTime, signal(libc::SIGXCPU) && weak),
        (Verdict::WallTime, report.cause == Cause::Limit(Limit::WallTime)),
        (Verdict::WallTime, over(report.usage.wall, Limit::WallTime)),
        (Verdict::Signaled, matches!(report.status, Status::Signaled { .. })),
        (Verdict::NonzeroExit, matches!(report.status, Status::Exited(1..))),
        (Verdict::Ok, true),
    ];
    table.into_iter().filter(|(_, is_so)| *is_so).map(|(verdict, _)| verdict).collect()
}

proptest! {
    #[test]
    fn the_first_line_that_is_so_counts(report in report()) {
        prop_assert_eq!(Some(report.verdict()), lines(&report).first().copied());
    }

    #[test]
    fn it_is_a_function_of_what_is_written_down(report in report()) {
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.verdict(), report.verdict());
        prop_assert_eq!(read, report);
    }

    #[test]
    fn ok_is_an_exit_with_0(report in report()) {
        prop_assert!(report.verdict() != Verdict::Ok || report.status.success());
    }

    #[test]
    fn a_cause_of_ours_needs_a_kill_of_ours(report in report()) {
        let is_ours = matches!(report.cause, Cause::Limit(_) | Cause::Request | Cause::MainEnded | Cause::OutOfMemory);
        prop_assert!(!is_ours || report.status.shell_code() == 128 + libc::SIGKILL);
    }
}

#[test]
fn a_status_that_ends_no_process_is_seen() {
    let ends = [WaitStatus::exited(0), WaitStatus::exited(255), KILLED, WaitStatus::signaled(64, true)];
    assert!(ends.iter().all(|status| status.is_end()));
    let (stopped, continued) = (WaitStatus(0x137f), WaitStatus(0xffff));
    for status in [stopped, continued, WaitStatus::exited(256), WaitStatus::signaled(65, false), WaitStatus(0x80)] {
        assert!(!status.is_end(), "{status:?}");
    }
    assert_eq!(Status::from(WaitStatus::exited(3)), Status::Exited(3));
    assert_eq!(Status::from(WaitStatus::signaled(11, true)), Status::Signaled { signal: 11, core_dumped: true });
}

#[test]
fn a_report_reads_well() {
    let measured = Measurement {
        killed: Some(KillReason::CpuTime),
        user_us: 1000,
        system_us: 500,
        wall_us: 2000,
        set_up_us: Some(300),
        peak_resident_bytes: 4096,
        group: Some(GroupFigures { oom_kills: Some(0), processes_peak: Some(2), ..no_figures() }),
        ..Measurement::of(KILLED)
    };
    let held = Held { limit: Limit::CpuTime, value: 1000, form: Form::CgroupV1 };
    let text = Report::new(measured, vec![held], Protections::new(Filter::Denylist, true, true)).to_string();
    let wanted = "verdict    cpu_time\n\
                  status     ended by signal 9 (killed: cpu_time limit)\n\
                  wall       2.000ms (clock)\n\
                  set-up     300.000µs (clock)\n\
                  cpu        1.500ms (wait4)\n\
                  \x20          1.000ms user, 500.000µs system (wait4)\n\
                  memory     4096 bytes at most (wait4)\n\
                  processes  2 at most (cgroup_v1)\n\
                  evidence   500.000µs over the CPU time limit\n\
                  limit      cpu_time 1000 (cgroup_v1)\n\
                  protected  filter denylist, ids own, landlock\n";
    assert_eq!(text, wanted);
}
