//! The form in which this machine holds each limit of a run.
//!
//! Invariant: [`Limits::plan`] is the only place that decides it. A limit that the caller set is
//! held in its full form, or the run is refused. The weaker form is for a default, and for a caller
//! that allows it.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::wire::Times;

use super::held::{Form, Held, Limit};
use super::request::{DEFAULT_MEMORY, DEFAULT_OPEN_FILES, DEFAULT_PROCESSES, DEFAULT_STACK, DEFAULT_WALL_TIME, Limits};
use super::resource::{Resource, Rlimit};
use super::support::{HostSupport, NprocScope};

/// The most pids that a kernel has (`PID_MAX_LIMIT`). It takes no higher limit.
const MOST_PROCESSES: u32 = 4 << 20;
const NO_GROUP: &str = "there is no control group for it that this process may make";
const NOT_READ: &str = "an output goes where this library does not read it";

/// How the limits of a run are held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) times: Times,
    pub(crate) affinity: Vec<u32>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) group: GroupLimits,
    pub(crate) output: Option<u64>,
    pub(crate) held: Vec<Held>,
}

/// The limits that a run's control group is set to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupLimits {
    pub(crate) memory: Option<u64>,
    pub(crate) processes: Option<u32>,
    /// In thousandths of a CPU.
    pub(crate) cpu_rate: Option<u64>,
    pub(crate) cpu_set: Vec<u32>,
}

impl Limits {
    /// Decides how `host` holds each limit.
    ///
    /// `outputs_elsewhere` says that this process does not read every output.
    pub(crate) fn plan(&self, host: &HostSupport, outputs_elsewhere: bool) -> Result<Plan> {
        self.check(host.configured_cpus)?;
        let mut plan = Plan::default();
        self.plan_wall_time(&mut plan);
        self.plan_cpu_time(host, &mut plan)?;
        self.plan_memory(host, &mut plan)?;
        self.plan_processes(host, &mut plan)?;
        self.plan_cpu_set(host, &mut plan)?;
        self.plan_cpu_rate(host, &mut plan)?;
        self.plan_stack(host, &mut plan);
        self.plan_file_size(&mut plan);
        self.plan_open_files(host, &mut plan);
        self.plan_address_space(&mut plan);
        self.plan_output(outputs_elsewhere, &mut plan)?;
        plan.times.cpus = plan.busy_cpus(host);
        Ok(plan)
    }

    fn plan_wall_time(&self, plan: &mut Plan) {
        let time = self.wall_time.unwrap_or(DEFAULT_WALL_TIME);
        if time == Duration::MAX {
            return;
        }
        plan.times.wall = Some(time);
        plan.hold(Limit::WallTime, micros(time), Form::Clock);
    }

    fn plan_cpu_time(&self, host: &HostSupport, plan: &mut Plan) -> Result<()> {
        let Some(time) = self.cpu_time.filter(|&time| time != Duration::MAX) else { return Ok(()) };
        plan.times.cpu = Some(time);
        if let Some(form) = host.group_form(|groups| groups.cpu_time) {
            plan.hold(Limit::CpuTime, micros(time), form);
            return Ok(());
        }
        self.require_weaker(Limit::CpuTime, NO_GROUP)?;
        plan.hold(Limit::CpuTime, micros(time), Form::ProcessTimes);
        // The kernel counts whole seconds. One more second lets the init look first.
        let seconds = time.as_secs().saturating_add(2);
        plan.lower_rlimit(Resource::CpuSeconds, seconds);
        Ok(())
    }

    fn plan_memory(&self, host: &HostSupport, plan: &mut Plan) -> Result<()> {
        let bytes = self.memory.unwrap_or(DEFAULT_MEMORY);
        if bytes == u64::MAX {
            return Ok(());
        }
        if let Some(form) = host.group_form(|groups| groups.memory) {
            plan.group.memory = Some(bytes);
            plan.hold(Limit::Memory, bytes, form);
            return Ok(());
        }
        if self.memory.is_some() {
            self.require_weaker(Limit::Memory, NO_GROUP)?;
        }
        plan.hold_by_rlimit(Limit::Memory, bytes, Resource::Data);
        Ok(())
    }

    fn plan_processes(&self, host: &HostSupport, plan: &mut Plan) -> Result<()> {
        let count = self.processes.unwrap_or(DEFAULT_PROCESSES);
        if count == u32::MAX {
            return Ok(());
        }
        let count = count.min(MOST_PROCESSES);
        if let Some(form) = host.group_form(|groups| groups.processes) {
            plan.group.processes = Some(count);
            plan.hold(Limit::Processes, count.into(), form);
            return Ok(());
        }
        let rlimit = match (self.processes, host.nproc_scope) {
            // A default must not count other processes of the user.
            (None, NprocScope::User | NprocScope::Unlimited) => return Ok(()),
            (Some(_), NprocScope::Unlimited) => return Err(unsupported(Limit::Processes, NO_GROUP)),
            (_, NprocScope::Run) => u64::from(count),
            (_, NprocScope::WithInit | NprocScope::User) => u64::from(count) + 1,
        };
        if self.processes.is_some() {
            self.require_weaker(Limit::Processes, NO_GROUP)?;
        }
        plan.hold(Limit::Processes, count.into(), Form::Rlimit);
        plan.lower_rlimit(Resource::Processes, rlimit);
        Ok(())
    }

    fn plan_cpu_set(&self, host: &HostSupport, plan: &mut Plan) -> Result<()> {
        if self.cpu_set.is_empty() {
            return Ok(());
        }
        let count = self.cpu_set.len() as u64;
        if let Some(form) = host.group_form(|groups| groups.cpu_set) {
            plan.group.cpu_set.clone_from(&self.cpu_set);
            plan.hold(Limit::CpuSet, count, form);
            return Ok(());
        }
        self.require_weaker(Limit::CpuSet, NO_GROUP)?;
        plan.affinity.clone_from(&self.cpu_set);
        plan.hold(Limit::CpuSet, count, Form::Affinity);
        Ok(())
    }

    fn plan_cpu_rate(&self, host: &HostSupport, plan: &mut Plan) -> Result<()> {
        let Some(rate) = self.cpu_rate else { return Ok(()) };
        let Some(form) = host.group_form(|groups| groups.cpu_rate) else {
            return Err(unsupported(Limit::CpuRate, NO_GROUP));
        };
        let thousandths = (rate * 1000.0) as u64;
        plan.group.cpu_rate = Some(thousandths);
        plan.hold(Limit::CpuRate, thousandths, form);
        Ok(())
    }

    fn plan_stack(&self, host: &HostSupport, plan: &mut Plan) {
        let bytes = self.stack.unwrap_or(DEFAULT_STACK.min(host.hard_stack));
        plan.hold_by_rlimit(Limit::Stack, bytes, Resource::Stack);
    }

    fn plan_file_size(&self, plan: &mut Plan) {
        let bytes = self.file_size.unwrap_or(u64::MAX);
        plan.hold_by_rlimit(Limit::FileSize, bytes, Resource::FileSize);
    }

    fn plan_open_files(&self, host: &HostSupport, plan: &mut Plan) {
        let count = self.open_files.unwrap_or(DEFAULT_OPEN_FILES.min(host.hard_open_files));
        plan.hold_by_rlimit(Limit::OpenFiles, count, Resource::OpenFiles);
    }

    fn plan_address_space(&self, plan: &mut Plan) {
        let bytes = self.address_space.unwrap_or(u64::MAX);
        plan.hold_by_rlimit(Limit::AddressSpace, bytes, Resource::AddressSpace);
    }

    fn plan_output(&self, outputs_elsewhere: bool, plan: &mut Plan) -> Result<()> {
        let Some(bytes) = self.output.filter(|&bytes| bytes != u64::MAX) else { return Ok(()) };
        plan.output = Some(bytes);
        if !outputs_elsewhere {
            plan.hold(Limit::Output, bytes, Form::Reader);
            return Ok(());
        }
        self.require_weaker(Limit::Output, NOT_READ)?;
        plan.hold_by_rlimit(Limit::Output, bytes, Resource::FileSize);
        Ok(())
    }

    /// Refuses the run unless the caller allows weaker forms.
    fn require_weaker(&self, limit: Limit, why: &str) -> Result<()> {
        if self.allow_weaker { Ok(()) } else { Err(unsupported(limit, why)) }
    }
}

impl Plan {
    /// Records that `form` holds a limit.
    pub(super) fn hold(&mut self, limit: Limit, value: u64, form: Form) {
        self.held.push(Held { limit, value, form });
    }

    /// Holds a limit by a resource limit of the same value. `u64::MAX` is no limit.
    fn hold_by_rlimit(&mut self, limit: Limit, value: u64, resource: Resource) {
        if value != u64::MAX {
            self.hold(limit, value, Form::Rlimit);
            self.lower_rlimit(resource, value);
        }
    }

    /// Sets a resource limit. Where two limits use the same resource, the lower value counts.
    fn lower_rlimit(&mut self, resource: Resource, value: u64) {
        match self.rlimits.iter_mut().find(|limit| limit.resource == resource) {
            Some(limit) => (limit.soft, limit.hard) = (limit.soft.min(value), limit.hard.min(value)),
            None => self.rlimits.push(Rlimit { resource, soft: value, hard: value }),
        }
    }

    /// How many CPUs the run can keep busy at once. Each busy CPU has a thread of the run on it.
    ///
    /// Only what a group holds bounds the number: a program can change its own affinity.
    fn busy_cpus(&self, host: &HostSupport) -> u32 {
        let cpu_set = match self.group.cpu_set.len() {
            0 => u32::MAX,
            count => count as u32,
        };
        let processes = self.group.processes.unwrap_or(u32::MAX);
        host.cpus.min(cpu_set).min(processes).max(1)
    }
}

fn unsupported(limit: Limit, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, Step::HoldLimit).detail(format!("{limit}: {why}"))
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}
