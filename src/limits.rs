//! What a run may use, and in which form this machine holds each limit.
//!
//! Invariant: [`Limits::plan`] is the only place that decides how a limit is held. One that was asked for is held in its
//! full form, or the run is refused; a weaker form is taken only where the caller said so, or for a default.

mod terms;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result, Step};

pub(crate) use terms::Terms;

/// What a run may use at most: [`Command::limits`](crate::Command::limits).
///
/// | limit | default | held by | weaker form |
/// |---|---|---|---|
/// | CPU time, of the whole tree | none | cgroup | `RLIMIT_CPU`, and the times of the processes that can be seen |
/// | wall time | 60 s | the init's clock | |
/// | memory, of the whole tree | 1 GiB | cgroup | `RLIMIT_DATA` of each process |
/// | processes and threads | 256 | cgroup | `RLIMIT_NPROC` |
/// | stack | 8 MiB | `RLIMIT_STACK` | |
/// | size of a file | none | `RLIMIT_FSIZE` | |
/// | open files | 1024 | `RLIMIT_NOFILE` | |
/// | address space | none | `RLIMIT_AS` | |
/// | core dumps | none are made | `RLIMIT_CORE` | |
/// | CPU set | the host's | cgroup (cpuset) | the affinity, which the program may change |
/// | CPU rate | none | cgroup (cpu) | |
/// | output | none | whoever reads the pipes | `RLIMIT_FSIZE` of each file that an output goes to |
///
/// A limit that this machine cannot hold is an error of kind [`Unsupported`](crate::ErrorKind::Unsupported) before
/// anything runs, unless [`weaker`](Self::weaker) forms will do. A default is held in the best form there is; that of the
/// processes not at all where there is neither a cgroup nor a user id of the container's own. [`Report::limits`](crate::Report::limits) tells
/// which form was used. `Duration::MAX`, `u64::MAX` and `u32::MAX` are no limit. The defaults for stack and open files are
/// lowered to the host's own hard limits.
///
/// It serializes as `{"cpu_time_ms":1000,"wall_time_ms":2000,"memory_bytes":67108864,"processes":32,"stack_bytes":…,
/// "file_size_bytes":…,"open_files":…,"address_space_bytes":…,"cpu_set":[0],"cpu_rate":1.5,"output_bytes":…,
/// "weaker":true}`, each of which may be left out.
///
/// ```
/// use std::time::Duration;
/// use cellblock::{Command, Limits};
///
/// let limits = Limits::new().cpu_time(Duration::from_secs(1)).wall_time(Duration::from_secs(2)).memory(64 << 20);
/// Command::new("./solution").limits(limits);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(rename = "cpu_time_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    cpu_time: Option<Duration>,
    #[serde(rename = "wall_time_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    wall_time: Option<Duration>,
    #[serde(rename = "memory_bytes", skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<u32>,
    #[serde(rename = "stack_bytes", skip_serializing_if = "Option::is_none")]
    stack: Option<u64>,
    #[serde(rename = "file_size_bytes", skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<u64>,
    #[serde(rename = "address_space_bytes", skip_serializing_if = "Option::is_none")]
    address_space: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpu_set: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_rate: Option<f64>,
    #[serde(rename = "output_bytes", skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
    weaker: bool,
}

const DEFAULT_WALL_TIME: Duration = Duration::from_secs(60);
const DEFAULT_MEMORY: u64 = 1 << 30;
const DEFAULT_PROCESSES: u32 = 256;
const DEFAULT_STACK: u64 = 8 << 20;
const DEFAULT_OPEN_FILES: u64 = 1024;

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// CPU time in user mode and in the kernel, of every process and thread of the run together. The run is killed no later
    /// than one scheduler tick per busy CPU and 1 ms after it.
    pub fn cpu_time(self, time: Duration) -> Self {
        Self { cpu_time: Some(time), ..self }
    }

    /// Time by the monotonic clock from the program's start, whatever it does with it; that of a
    /// [hook](crate::Command::pid_hook) included.
    pub fn wall_time(self, time: Duration) -> Self {
        Self { wall_time: Some(time), ..self }
    }

    /// Bytes of memory as the kernel charges them: heap, stacks, files in a tmpfs, memfds, shared memory, page tables, and
    /// pages of files where this run was the first to read them. Files that earlier runs left in a tmpfs are charged until
    /// a reset.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Processes and threads that exist at the same time.
    pub fn processes(self, count: u32) -> Self {
        Self { processes: Some(count), ..self }
    }

    /// Bytes of the main thread's stack, arguments and environment included.
    pub fn stack(self, bytes: u64) -> Self {
        Self { stack: Some(bytes), ..self }
    }

    /// Bytes of the largest file that may be written: `SIGXFSZ`, or `EFBIG` for a program that ignores that.
    pub fn file_size(self, bytes: u64) -> Self {
        Self { file_size: Some(bytes), ..self }
    }

    /// Descriptors of each process.
    pub fn open_files(self, count: u64) -> Self {
        Self { open_files: Some(count), ..self }
    }

    /// Bytes of each process's address space. It breaks programs that reserve more than they use: Go, the JVM, V8.
    pub fn address_space(self, bytes: u64) -> Self {
        Self { address_space: Some(bytes), ..self }
    }

    /// The CPUs that the run may use, by their numbers.
    pub fn cpu_set(self, cpus: impl IntoIterator<Item = u32>) -> Self {
        let mut cpu_set: Vec<_> = cpus.into_iter().collect();
        cpu_set.sort_unstable();
        cpu_set.dedup();
        Self { cpu_set, ..self }
    }

    /// How many CPUs the run may keep busy, over periods of 100 ms: 0.5 is half of one. At least 0.01.
    pub fn cpu_rate(self, cpus: f64) -> Self {
        Self { cpu_rate: Some(cpus), ..self }
    }

    /// Bytes that the run may write to its piped outputs together. What reads them stops there, and the run is killed.
    pub fn output(self, bytes: u64) -> Self {
        Self { output: Some(bytes), ..self }
    }

    /// Takes the weaker form of a limit where this machine cannot hold the full one.
    pub fn weaker(self, will_do: bool) -> Self {
        Self { weaker: will_do, ..self }
    }
}

/// One of the things that [`Limits`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// CPU time, in microseconds.
    CpuTime,
    /// Wall time, in microseconds.
    WallTime,
    /// Memory, in bytes.
    Memory,
    /// Processes and threads.
    Processes,
    /// The stack, in bytes.
    Stack,
    /// The size of a file, in bytes.
    FileSize,
    /// Open files.
    OpenFiles,
    /// Address space, in bytes.
    AddressSpace,
    /// The CPU set: how many it has.
    CpuSet,
    /// The CPU rate, in thousandths of a CPU.
    CpuRate,
    /// Output, in bytes.
    Output,
}

/// What holds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Form {
    /// A group of a cgroup v1 hierarchy.
    CgroupV1,
    /// A group of the cgroup v2 hierarchy.
    CgroupV2,
    /// The init's monotonic clock.
    Clock,
    /// A resource limit of each process, or of the user id.
    Rlimit,
    /// The times of the processes that can be seen when the init looks, and a resource limit of each.
    ProcessTimes,
    /// The processes' CPU affinity.
    Affinity,
    /// What reads the pipes.
    Reader,
}

/// A limit that was in force, and what held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What was limited.
    pub limit: Limit,
    /// To how much, in the limit's unit.
    pub value: u64,
    /// By what.
    pub form: Form,
}

/// What a resource limit counts (getrlimit(2)).
///
/// The kernel applies each to every process of the program on its own, except [`Processes`](Self::Processes), which
/// counts all the processes and threads of the container's user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// CPU time, in seconds. SIGXCPU at the soft limit, SIGKILL at the hard one.
    CpuSeconds,
    /// The largest file that may be written, in bytes. SIGXFSZ or `EFBIG` beyond it.
    FileSize,
    /// The data segment and private writable mappings, in bytes.
    Data,
    /// The main thread's stack, in bytes.
    Stack,
    /// Core dumps, in bytes. There is no memory of the program in one, only its registers.
    Core,
    /// Processes and threads of the container's user id.
    Processes,
    /// File descriptors: one more than the highest number.
    OpenFiles,
    /// Address space, in bytes. Breaks programs that reserve much more than they use: Go, the JVM, V8.
    AddressSpace,
}

impl Resource {
    /// The kernel's number for this resource (the same on x86_64 and aarch64).
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::CpuSeconds => libc::RLIMIT_CPU,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::Data => libc::RLIMIT_DATA,
            Self::Stack => libc::RLIMIT_STACK,
            Self::Core => libc::RLIMIT_CORE,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::AddressSpace => libc::RLIMIT_AS,
        }
    }
}

/// One resource limit: a soft value that the program may raise, up to a hard one that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// What a machine can hold, as a container's builder finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grants {
    pub(crate) groups: Option<Groups>,
    /// Whether the program's user id is the container's own, so that the kernel's count of it is the run's.
    pub(crate) own_ids: bool,
    /// The CPUs that the host may use.
    pub(crate) cpus: u32,
    pub(crate) hard_stack: u64,
    pub(crate) hard_open_files: u64,
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

/// The times that the init watches.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) wall: Option<Duration>,
    pub(crate) cpu: Option<Duration>,
    /// How many CPUs can be busy for the run at once: its CPU time grows no faster than that.
    pub(crate) cpus: u32,
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
    pub(crate) fn plan(&self, grants: &Grants, outputs_elsewhere: bool) -> Result<Plan> {
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
        plan.limit(Resource::Core, 0, 0);
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

    fn plan_times(&self, grants: &Grants, plan: &mut Plan) -> Result<()> {
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
                    let seconds = cpu.as_secs() + 2;
                    plan.limit(Resource::CpuSeconds, seconds, seconds);
                }
            }
        }
        Ok(())
    }

    fn plan_tree(&self, grants: &Grants, plan: &mut Plan) -> Result<()> {
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
                // Nobody asked, and the kernel would count other processes of the user.
                None if self.processes.is_none() && !grants.own_ids => {}
                None => {
                    if self.processes.is_some() {
                        self.weaken(Limit::Processes, NO_GROUP)?;
                    }
                    plan.hold(Limit::Processes, processes.into(), Form::Rlimit);
                    // The init is of the program's user where that has no id of its own.
                    let counted = u64::from(processes) + u64::from(!grants.own_ids);
                    plan.limit(Resource::Processes, counted, counted);
                }
            }
        }
        Ok(())
    }

    fn plan_cpus(&self, grants: &Grants, plan: &mut Plan) -> Result<()> {
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
    fn hold(&mut self, limit: Limit, value: u64, form: Form) {
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

/// Durations as whole milliseconds.
mod millis {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let time = |millis| if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) };
        Ok(Option::<u64>::deserialize(from)?.map(time))
    }
}

#[cfg(test)]
mod tests;
