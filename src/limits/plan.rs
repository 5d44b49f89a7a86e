//! In which form this machine holds each limit.
//!
//! Invariant: [`Limits::plan`] is the only place that decides. What was asked for is held in its full form, or the run is
//! refused; a weaker form is taken only where the caller said so, or for a default.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::wire::Times;

use super::{Form, Held, Limit, Limits, Resource, Rlimit};

pub(super) const DEFAULT_WALL_TIME: Duration = Duration::from_secs(60);
pub(super) const DEFAULT_MEMORY: u64 = 1 << 30;
pub(super) const DEFAULT_PROCESSES: u32 = 256;
pub(super) const DEFAULT_STACK: u64 = 8 << 20;
pub(super) const DEFAULT_OPEN_FILES: u64 = 1024;

/// What a machine can hold, as a container's builder finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostSupport {
    pub(crate) groups: Option<Groups>,
    pub(crate) counted: NprocScope,
    /// The CPUs that the host may use.
    pub(crate) cpus: u32,
    pub(crate) hard_stack: u64,
    pub(crate) hard_open_files: u64,
}

/// Whose processes the kernel counts for a program's user id, where it holds `RLIMIT_NPROC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NprocScope {
    /// The run's alone.
    Run,
    /// The run's and its init.
    WithInit,
    /// All of the host's user.
    User,
    /// It holds nothing: the user is the machine's root.
    Nobody,
}

/// What the control groups that this host may make can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) form: Form,
    pub(crate) memory: bool,
    pub(crate) processes: bool,
    pub(crate) cpu_time: bool,
    pub(crate) cpu_rate: bool,
    pub(crate) cpu_set: bool,
}

/// How a run's limits are held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) times: Times,
    pub(crate) affinity: Vec<u32>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) group: GroupLimits,
    pub(crate) output: Option<u64>,
    pub(crate) held: Vec<Held>,
}

/// What a run's group is set to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupLimits {
    pub(crate) memory: Option<u64>,
    pub(crate) processes: Option<u32>,
    /// In thousandths of a CPU.
    pub(crate) cpu_rate: Option<u64>,
    pub(crate) cpu_set: Vec<u32>,
}

impl Limits {
    /// Decides how each limit is held. `outputs_elsewhere` says that an output goes where nobody of ours reads it.
    pub(crate) fn plan(&self, grants: &HostSupport, outputs_elsewhere: bool) -> Result<Plan> {
        self.check()?;
        let mut plan = Plan::default();
        self.plan_times(grants, &mut plan)?;
        self.plan_tree(grants, &mut plan)?;
        self.plan_cpus(grants, &mut plan)?;
        let each = [
            (Limit::Stack, Resource::Stack, self.stack, Some(DEFAULT_STACK.min(grants.hard_stack))),
            (Limit::FileSize, Resource::FileSize, self.file_size, None),
            (
                Limit::OpenFiles,
                Resource::OpenFiles,
                self.open_files,
                Some(DEFAULT_OPEN_FILES.min(grants.hard_open_files)),
            ),
            (Limit::AddressSpace, Resource::AddressSpace, self.address_space, None),
        ];
        for (limit, resource, asked, default) in each {
            if let Some(value) = asked.or(default).filter(|&value| value != u64::MAX) {
                plan.hold(limit, value, Form::Rlimit);
                plan.limit(resource, value, value);
            }
        }
        if let Some(bytes) = self.output.filter(|&bytes| bytes != u64::MAX) {
            plan.output = Some(bytes);
            if outputs_elsewhere {
                self.weaken(Limit::Output, "an output goes where this library does not read it")?;
                plan.hold(Limit::Output, bytes, Form::Rlimit);
                plan.limit(Resource::FileSize, bytes, bytes);
            } else {
                plan.hold(Limit::Output, bytes, Form::Reader);
            }
        }
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        let none = |name: &str| Err(Error::invalid(format!("a limit of no {name} leaves nothing to run with")));
        if self.cpu_time.is_some_and(|time| time.is_zero()) || self.wall_time.is_some_and(|time| time.is_zero()) {
            return none("time");
        }
        if self.memory == Some(0) {
            return none("memory");
        }
        if self.processes == Some(0) {
            return none("processes");
        }
        // More than any kernel is built for.
        if let Some(cpu) = self.cpu_set.iter().find(|&&cpu| cpu >= 1 << 16) {
            return Err(Error::invalid(format!("there is no CPU {cpu}")));
        }
        match self.cpu_rate {
            Some(rate) if !(0.01..=1e6).contains(&rate) => Err(Error::invalid(format!("a CPU rate of {rate}"))),
            _ => Ok(()),
        }
    }

    fn plan_times(&self, grants: &HostSupport, plan: &mut Plan) -> Result<()> {
        let groups = grants.groups.filter(|groups| groups.cpu_time);
        if let Some(wall) = Some(self.wall_time.unwrap_or(DEFAULT_WALL_TIME)).filter(|&time| time != Duration::MAX) {
            plan.times.wall = Some(wall);
            plan.hold(Limit::WallTime, micros(wall), Form::Clock);
        }
        if let Some(cpu) = self.cpu_time.filter(|&time| time != Duration::MAX) {
            plan.times.cpu = Some(cpu);
            match groups {
                Some(groups) => plan.hold(Limit::CpuTime, micros(cpu), groups.form),
                None => {
                    self.weaken(Limit::CpuTime, NO_GROUP)?;
                    plan.hold(Limit::CpuTime, micros(cpu), Form::ProcessTimes);
                    // The kernel counts whole seconds. One more, and the init has looked before.
                    let seconds = cpu.as_secs().saturating_add(2);
                    plan.limit(Resource::CpuSeconds, seconds, seconds);
                }
            }
        }
        Ok(())
    }

    fn plan_tree(&self, grants: &HostSupport, plan: &mut Plan) -> Result<()> {
        let memory = self.memory.unwrap_or(DEFAULT_MEMORY);
        if memory != u64::MAX {
            match grants.groups.filter(|groups| groups.memory) {
                Some(groups) => {
                    plan.group.memory = Some(memory);
                    plan.hold(Limit::Memory, memory, groups.form);
                }
                None => {
                    if self.memory.is_some() {
                        self.weaken(Limit::Memory, NO_GROUP)?;
                    }
                    plan.hold(Limit::Memory, memory, Form::Rlimit);
                    plan.limit(Resource::Data, memory, memory);
                }
            }
        }
        let processes = self.processes.unwrap_or(DEFAULT_PROCESSES);
        if processes != u32::MAX {
            match grants.groups.filter(|groups| groups.processes) {
                Some(groups) => {
                    plan.group.processes = Some(processes);
                    plan.hold(Limit::Processes, processes.into(), groups.form);
                }
                None => {
                    let counted = match (self.processes, grants.counted) {
                        // Others of the user's would be counted, and nobody asked for that.
                        (None, NprocScope::User | NprocScope::Nobody) => return Ok(()),
                        (Some(_), NprocScope::Nobody) => return Err(unsupported(Limit::Processes, NO_GROUP)),
                        (_, NprocScope::Run) => processes.into(),
                        (_, NprocScope::WithInit | NprocScope::User) => u64::from(processes) + 1,
                    };
                    if self.processes.is_some() {
                        self.weaken(Limit::Processes, NO_GROUP)?;
                    }
                    plan.hold(Limit::Processes, processes.into(), Form::Rlimit);
                    plan.limit(Resource::Processes, counted, counted);
                }
            }
        }
        Ok(())
    }

    fn plan_cpus(&self, grants: &HostSupport, plan: &mut Plan) -> Result<()> {
        let mut cpus = grants.cpus;
        if !self.cpu_set.is_empty() {
            let count = self.cpu_set.len() as u32;
            match grants.groups.filter(|groups| groups.cpu_set) {
                Some(groups) => {
                    plan.group.cpu_set = self.cpu_set.clone();
                    plan.hold(Limit::CpuSet, count.into(), groups.form);
                    cpus = cpus.min(count);
                }
                None => {
                    self.weaken(Limit::CpuSet, NO_GROUP)?;
                    plan.affinity = self.cpu_set.clone();
                    plan.hold(Limit::CpuSet, count.into(), Form::Affinity);
                }
            }
        }
        if let Some(rate) = self.cpu_rate {
            let Some(groups) = grants.groups.filter(|groups| groups.cpu_rate) else {
                return Err(unsupported(Limit::CpuRate, NO_GROUP));
            };
            let thousandths = (rate * 1000.0) as u64;
            plan.group.cpu_rate = Some(thousandths);
            plan.hold(Limit::CpuRate, thousandths, groups.form);
        }
        // Each busy CPU has a process or thread of the run on it.
        plan.times.cpus = cpus.min(plan.group.processes.unwrap_or(u32::MAX)).max(1);
        Ok(())
    }

    fn weaken(&self, limit: Limit, why: &str) -> Result<()> {
        if self.weaker { Ok(()) } else { Err(unsupported(limit, why)) }
    }
}

const NO_GROUP: &str = "there is no control group for it that this process may make";

fn unsupported(limit: Limit, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, Step::HoldLimit).detail(format!("{limit}: {why}"))
}

impl Plan {
    pub(super) fn hold(&mut self, limit: Limit, value: u64, form: Form) {
        self.held.push(Held { limit, value, form });
    }

    /// The lower one counts where there are two for the same resource.
    fn limit(&mut self, resource: Resource, soft: u64, hard: u64) {
        match self.rlimits.iter_mut().find(|limit| limit.resource == resource) {
            Some(limit) => (limit.soft, limit.hard) = (limit.soft.min(soft), limit.hard.min(hard)),
            None => self.rlimits.push(Rlimit { resource, soft, hard }),
        }
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}
