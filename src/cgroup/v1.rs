//! Groups of cgroup v1: one directory in each hierarchy, made for the first run and kept.
//!
//! A run enters by a write to `tasks`, not to `cgroup.procs`. A thread that moves itself takes no
//! lock that waits for an RCU grace period. After 50 ms without one, that wait takes milliseconds
//! for each file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Failure, ResultExt, Step};
use crate::limits::{CgroupSupport, Form, GroupLimits};
use crate::wire::{CgroupVersion, Figure, GroupFile};

use super::directory::{GroupDirectory, is_writable, remove_abandoned};
use super::join_request::{JoinRequest, JoinRequestBuilder};
use super::proc_cgroup::ProcCgroup;

const QUOTA: &str = "cpu.cfs_quota_us";
const NO_QUOTA: &str = "-1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
    Cpuacct,
    Cpu,
    Cpuset,
}

use Controller::{Cpu, Cpuacct, Cpuset, Memory, Pids};

const CONTROLLERS: [(Controller, &str); 5] =
    [(Memory, "memory"), (Pids, "pids"), (Cpuacct, "cpuacct"), (Cpu, "cpu"), (Cpuset, "cpuset")];

/// The hierarchies in which this process may make groups.
#[derive(Debug)]
pub(crate) struct V1Hierarchies {
    hierarchies: Vec<V1Hierarchy>,
}

#[derive(Debug)]
struct V1Hierarchy {
    /// This process's own group, in which the groups of the runs are made.
    parent: PathBuf,
    controllers: Vec<Controller>,
}

impl V1Hierarchies {
    pub(super) fn find(own: &ProcCgroup<'_>) -> Option<Self> {
        let mut hierarchies: Vec<V1Hierarchy> = Vec::new();
        for (controller, name) in CONTROLLERS {
            let Some(parent) = own.of_controller(name).filter(|path| is_writable(path)) else { continue };
            match hierarchies.iter_mut().find(|it| it.parent == parent) {
                Some(hierarchy) => hierarchy.controllers.push(controller),
                None => {
                    remove_abandoned(&parent);
                    hierarchies.push(V1Hierarchy { parent, controllers: vec![controller] });
                }
            }
        }
        (!hierarchies.is_empty()).then_some(Self { hierarchies })
    }

    pub(super) fn support(&self) -> CgroupSupport {
        let has = |controller| self.hierarchies.iter().any(|it| it.controllers.contains(&controller));
        CgroupSupport {
            form: Form::CgroupV1,
            memory: has(Memory),
            processes: has(Pids),
            cpu_time: has(Cpuacct),
            cpu_rate: has(Cpu),
            cpu_set: has(Cpuset),
        }
    }
}

/// The group of a container's runs: the directories that its runs have needed so far.
#[derive(Debug)]
pub(crate) struct V1Group {
    hierarchies: Arc<V1Hierarchies>,
    members: Vec<V1Member>,
    /// Whether the init knows all of these directories and no other.
    is_joined: bool,
}

/// The group's directory in one hierarchy.
#[derive(Debug)]
struct V1Member {
    parent: PathBuf,
    controllers: Vec<Controller>,
    directory: GroupDirectory,
    /// The limits that the directory is set to.
    applied: GroupLimits,
}

impl V1Group {
    pub(super) fn new(hierarchies: Arc<V1Hierarchies>) -> Self {
        Self { hierarchies, members: Vec::new(), is_joined: false }
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = &GroupDirectory> {
        self.members.iter().map(|member| &member.directory)
    }

    pub(super) fn prepare(&mut self, limits: &GroupLimits) -> Result<Option<JoinRequest>, Failure> {
        self.drop_unneeded(limits);
        self.make_missing(limits)?;
        self.members.iter_mut().try_for_each(|member| member.apply(limits))?;
        if self.is_joined {
            return Ok(None);
        }
        let request = self.open_files()?;
        self.is_joined = true;
        Ok(Some(request))
    }

    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        let limited = self.members.iter().filter(|member| member.applied.cpu_rate.is_some());
        limited.map(|member| &member.directory).try_for_each(|directory| directory.write(QUOTA, NO_QUOTA))
    }

    /// Drops all directories. The next run makes new ones.
    pub(super) fn invalidate(&mut self) {
        self.members.clear();
        self.is_joined = false;
    }

    /// Drops the directory whose peak of processes cannot start anew. The next run makes a new one.
    pub(super) fn invalidate_process_counter(&mut self) {
        self.members.retain(|member| !member.controllers.contains(&Pids));
        self.is_joined = false;
    }

    fn drop_unneeded(&mut self, limits: &GroupLimits) {
        let before = self.members.len();
        self.members.retain(|member| is_needed(&member.controllers, limits));
        self.is_joined &= self.members.len() == before;
    }

    fn make_missing(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        for V1Hierarchy { parent, controllers } in &self.hierarchies.hierarchies {
            let has_one = self.members.iter().any(|member| member.parent == *parent);
            if !has_one && is_needed(controllers, limits) {
                self.is_joined = false;
                self.members.push(V1Member::make(parent, controllers)?);
            }
        }
        Ok(())
    }

    fn open_files(&self) -> Result<JoinRequest, Failure> {
        let mut request = JoinRequestBuilder::default();
        for member in &self.members {
            member.add_files(&mut request).step_at(Step::MakeGroup, &member.directory.path)?;
        }
        Ok(request.build(CgroupVersion::V1))
    }
}

/// Whether a run with these limits needs a group in the hierarchy of these controllers.
fn is_needed(controllers: &[Controller], limits: &GroupLimits) -> bool {
    controllers.iter().any(|controller| match controller {
        // The report of every run has these figures.
        Memory | Pids | Cpuacct => true,
        // Without a group the kernel shares CPU time out by sessions. A program can have as many
        // sessions as processes.
        Cpu => true,
        Cpuset => !limits.cpu_set.is_empty(),
    })
}

impl V1Member {
    fn make(parent: &Path, controllers: &[Controller]) -> Result<Self, Failure> {
        let directory = GroupDirectory::make(parent)?;
        if controllers.contains(&Cpuset) {
            // A new cpuset is empty, and no process may enter an empty one.
            for (from, to) in [("cpuset.effective_cpus", "cpuset.cpus"), ("cpuset.effective_mems", "cpuset.mems")] {
                let from = parent.join(from);
                let inherited = fs::read_to_string(&from).step_at(Step::MakeGroup, from)?;
                directory.write(to, inherited.trim())?;
            }
        }
        Ok(Self { parent: parent.into(), controllers: controllers.into(), directory, applied: GroupLimits::default() })
    }

    /// Sets the limits that differ from the applied ones.
    fn apply(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        let Self { controllers, directory, applied, .. } = self;
        for controller in &*controllers {
            match controller {
                Memory if applied.memory != limits.memory => {
                    set_memory(directory, applied.memory, limits.memory)?;
                    applied.memory = limits.memory;
                }
                Pids if applied.processes != limits.processes => {
                    let most = limits.processes.map_or("max".to_owned(), |count| count.to_string());
                    directory.write("pids.max", most)?;
                    applied.processes = limits.processes;
                }
                // The init lifts the rate at the end of a run, so it is set for each run.
                Cpu if applied.cpu_rate != limits.cpu_rate || limits.cpu_rate.is_some() => {
                    // In microseconds of a period of 100 ms.
                    directory.write(QUOTA, limits.cpu_rate.map_or(-1, |rate| rate as i64 * 100))?;
                    applied.cpu_rate = limits.cpu_rate;
                }
                Cpuset if applied.cpu_set != limits.cpu_set => {
                    let cpus: Vec<_> = limits.cpu_set.iter().map(u32::to_string).collect();
                    directory.write("cpuset.cpus", cpus.join(","))?;
                    applied.cpu_set.clone_from(&limits.cpu_set);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_files(&self, request: &mut JoinRequestBuilder) -> io::Result<()> {
        let path = |name| self.directory.path.join(name);
        request.add_writable(GroupFile::Tasks, &path("tasks"))?;
        for controller in &self.controllers {
            match controller {
                Memory => {
                    request.add_counter(Figure::MemoryNow, &path("memory.usage_in_bytes"), "", 1)?;
                    request.add_counter(Figure::MemoryPeakSinceReset, &path("memory.max_usage_in_bytes"), "", 1)?;
                    request.add_counter(Figure::OomKills, &path("memory.oom_control"), "oom_kill", 1)?;
                }
                Pids => {
                    request.add_counter(Figure::ProcessesPeak, &path("pids.peak"), "", 1)?;
                    request.add_counter(Figure::RefusedForks, &path("pids.events"), "max", 1)?;
                }
                Cpuacct => request.add_counter(Figure::CpuTime, &path("cpuacct.usage"), "", 1)?,
                Cpu => {
                    request.add_counter(Figure::Throttled, &path("cpu.stat"), "throttled_time", 1)?;
                    request.add_writable(GroupFile::Rate { none: NO_QUOTA.to_owned() }, &path(QUOTA))?;
                }
                Cpuset => {}
            }
        }
        Ok(())
    }
}

/// Sets the limits of memory, and of memory and swap together. The kernel refuses a second limit
/// below the first, so the order of the writes depends on whether the limit grows.
fn set_memory(directory: &GroupDirectory, before: Option<u64>, after: Option<u64>) -> Result<(), Failure> {
    let value = after.map_or("-1".to_owned(), |bytes| bytes.to_string());
    let grows = after.unwrap_or(u64::MAX) > before.unwrap_or(u64::MAX);
    let mut files = vec!["memory.limit_in_bytes"];
    // The file exists only if the kernel counts swap.
    if directory.path.join("memory.memsw.limit_in_bytes").exists() {
        files.insert(if grows { 0 } else { 1 }, "memory.memsw.limit_in_bytes");
    }
    files.into_iter().try_for_each(|file| directory.write(file, &value))
}
