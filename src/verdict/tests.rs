//! The table of the docs, and what holds whatever a report says.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::Held;
use crate::report::{Measured, Protections, Reason};

const KILLED: Status = Status::Signaled { signal: libc::SIGKILL, core_dumped: false };

fn limit() -> impl Strategy<Value = Held> {
    let limits = [Limit::CpuTime, Limit::WallTime, Limit::Memory, Limit::Processes, Limit::FileSize, Limit::Output];
    let forms = [Form::CgroupV1, Form::CgroupV2, Form::Rlimit, Form::Clock, Form::ProcessTimes, Form::Reader];
    let held = |(limit, value, form)| Held { limit, value, form };
    (prop::sample::select(limits.to_vec()), 1..100_u64, prop::sample::select(forms.to_vec())).prop_map(held)
}

fn status() -> impl Strategy<Value = Status> {
    let signal = prop::sample::select(vec![libc::SIGKILL, libc::SIGSEGV, libc::SIGXFSZ, libc::SIGXCPU, libc::SIGSYS]);
    let signaled = (signal, any::<bool>());
    prop_oneof![
        2 => Just(Status::Exited(0)),
        1 => (1..256).prop_map(Status::Exited),
        2 => signaled.prop_map(|(signal, core_dumped)| Status::Signaled { signal, core_dumped }),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let reasons = [Limit::CpuTime, Limit::WallTime, Limit::Output].map(Reason::Limit);
    let killed = prop::option::of(prop::sample::select([&reasons[..], &[Reason::Request]].concat()));
    let count = || prop::option::of(0..3_u64);
    let time = || prop::option::of((0..100_u64).prop_map(Duration::from_micros));
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
            let mut measured = Measured { killed, ..Measured::of(status) };
            (measured.usage.cpu, measured.usage.wall) = (cpu, wall);
            (measured.evidence.oom_kills, measured.evidence.refused_forks) = (oom_kills, refused_forks);
            measured.evidence.output_exceeded = output_exceeded;
            Report::new(measured, limits, Protections { syscalls, ..Protections::new(filter, own_ids, true) })
        },
    )
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
        (Verdict::Signalled, matches!(report.status, Status::Signaled { .. })),
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
        let is_ours = matches!(report.cause, Cause::Limit(_) | Cause::Request | Cause::OutOfMemory);
        prop_assert!(!is_ours || report.status.shell_code() == 128 + libc::SIGKILL);
    }
}

#[test]
fn a_report_reads_well() {
    let mut measured = Measured { killed: Some(Reason::Limit(Limit::CpuTime)), ..Measured::of(KILLED) };
    measured.usage.cpu = Some(Duration::from_micros(1500));
    measured.evidence.oom_kills = Some(0);
    let held = Held { limit: Limit::CpuTime, value: 1000, form: Form::CgroupV1 };
    let text = Report::new(measured, vec![held], Protections::new(Filter::Denylist, true, true)).to_string();
    let wanted = "verdict    cpu_time\n\
                  status     ended by signal 9 (killed: cpu_time limit)\n\
                  cpu        1.500ms (nowhere)\n\
                  evidence   500.000µs over the CPU time limit\n\
                  limit      cpu_time 1000 (cgroup_v1)\n\
                  protected  filter denylist, ids own, landlock\n";
    assert_eq!(text, wanted);
}
