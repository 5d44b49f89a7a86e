//! The form that each machine gives each limit.

use std::time::Duration;

use crate::error::{ErrorKind, Step};

use super::held::{Form, Limit};
use super::plan::Plan;
use super::request::{DEFAULT_MEMORY, Limits};
use super::resource::Resource;
use super::support::{CgroupSupport, HostSupport, NprocScope};

const BARE: HostSupport = HostSupport {
    groups: None,
    nproc_scope: NprocScope::Run,
    cpus: 8,
    configured_cpus: 8,
    hard_stack: u64::MAX,
    hard_open_files: 500,
};

const GROUPS: CgroupSupport = CgroupSupport {
    form: Form::CgroupV2,
    memory: true,
    processes: true,
    cpu_time: true,
    cpu_rate: true,
    cpu_set: true,
};

fn form(plan: &Plan, limit: Limit) -> Option<(u64, Form)> {
    plan.held.iter().find(|held| held.limit == limit).map(|held| (held.value, held.form))
}

#[test]
fn a_limit_that_the_caller_sets_is_held_or_refused() {
    let second = Duration::from_secs(1);
    let cases = [
        (Limits::new().memory(4 << 20), Limit::Memory, 4 << 20, Some(Form::Rlimit)),
        (Limits::new().processes(4), Limit::Processes, 4, Some(Form::Rlimit)),
        (Limits::new().cpu_time(second), Limit::CpuTime, 1_000_000, Some(Form::ProcessTimes)),
        (Limits::new().cpu_set([1, 1, 3]), Limit::CpuSet, 2, Some(Form::Affinity)),
        (Limits::new().cpu_rate(1.5), Limit::CpuRate, 1500, None),
    ];
    for (limits, limit, value, weaker) in cases {
        let full = HostSupport { groups: Some(GROUPS), ..BARE };
        let plan = limits.plan(&full, false).unwrap();
        assert_eq!(form(&plan, limit), Some((value, Form::CgroupV2)));
        let error = limits.plan(&BARE, false).unwrap_err();
        assert_eq!((error.kind(), error.failed_step()), (ErrorKind::Unsupported, Some(Step::HoldLimit)), "{error}");
        match (limits.clone().allow_weaker(true).plan(&BARE, false), weaker) {
            (Ok(plan), Some(weaker)) => assert_eq!(form(&plan, limit), Some((value, weaker))),
            (plan, weaker) => assert!(plan.is_err() && weaker.is_none()),
        }
    }
}

#[test]
fn a_default_is_held_in_the_best_form_of_the_machine() {
    let plan = Limits::new().plan(&HostSupport { groups: Some(GROUPS), ..BARE }, true).unwrap();
    assert_eq!(form(&plan, Limit::Memory), Some((DEFAULT_MEMORY, Form::CgroupV2)));
    assert_eq!(form(&plan, Limit::Processes), Some((256, Form::CgroupV2)));
    let plan = Limits::new().plan(&BARE, true).unwrap();
    assert_eq!(form(&plan, Limit::Memory), Some((DEFAULT_MEMORY, Form::Rlimit)));
    assert_eq!(form(&plan, Limit::Processes), Some((256, Form::Rlimit)));
    assert_eq!(form(&plan, Limit::OpenFiles), Some((500, Form::Rlimit)), "the host's own hard limit");
    let planned =
        |nproc_scope, limits: Limits| limits.allow_weaker(true).plan(&HostSupport { nproc_scope, ..BARE }, true);
    for (scope, default, asked) in [
        (NprocScope::Run, Some(256), Some(9)),
        (NprocScope::WithInit, Some(257), Some(10)),
        (NprocScope::User, None, Some(10)),
        (NprocScope::Unlimited, None, None),
    ] {
        let most = |limits| {
            let plan = planned(scope, limits).ok()?;
            let limit = plan.rlimits.into_iter().find(|limit| limit.resource == Resource::Processes)?;
            assert_eq!(plan.held.iter().filter(|held| held.limit == Limit::Processes).count(), 1);
            Some(limit.hard)
        };
        assert_eq!((most(Limits::new()), most(Limits::new().processes(9))), (default, asked), "{scope:?}");
    }
    let refused = planned(NprocScope::Unlimited, Limits::new().processes(9)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "the kernel holds no limit that it does not count");
}

#[test]
fn a_time_that_no_clock_reaches_is_a_limit_too() {
    let longest = Duration::from_secs(u64::MAX);
    let plan = Limits::new().cpu_time(longest).wall_time(longest).allow_weaker(true).plan(&BARE, false).unwrap();
    assert_eq!(form(&plan, Limit::CpuTime), Some((u64::MAX, Form::ProcessTimes)));
    assert!(plan.rlimits.iter().any(|limit| limit.resource == Resource::CpuSeconds && limit.hard == u64::MAX));
}

#[test]
fn cpu_time_grows_no_faster_than_the_cpus_allow() {
    let full = HostSupport { groups: Some(GROUPS), ..BARE };
    let cpus = |limits: Limits| limits.allow_weaker(true).plan(&full, false).unwrap().times.cpus;
    assert_eq!(cpus(Limits::new()), 8);
    assert_eq!(cpus(Limits::new().processes(3)), 3);
    assert_eq!(cpus(Limits::new().cpu_set([0, 5])), 2);
    // A program can change its own affinity, so that is no bound.
    assert_eq!(Limits::new().allow_weaker(true).cpu_set([0]).plan(&BARE, false).unwrap().times.cpus, 8);
}

#[test]
fn limits_are_written_as_they_are_read() {
    let text = r#"{"cpu_time_ms":1000,"wall_time_ms":2000,"memory_bytes":67108864,"processes":32,"stack_bytes":1,
        "file_size_bytes":2,"open_files":3,"address_space_bytes":4,"cpu_set":[0],"cpu_rate":1.5,"output_bytes":5,
        "weaker":true}"#;
    let limits: Limits = serde_json::from_str(text).unwrap();
    let again = serde_json::to_value(&limits).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert_eq!(serde_json::from_str::<Limits>("{}").unwrap(), Limits::new());
    assert!(serde_json::from_str::<Limits>(r#"{"memory":1}"#).is_err(), "an unknown field");
}
