//! Groups in the hierarchies of cgroup v1: a directory for each hierarchy, made for the first run and kept.
//!
//! A run enters by writing to `tasks`, not to `cgroup.procs`: a thread that moves itself takes no lock that waits for an RCU
//! grace period, which after 50 ms without one takes milliseconds for each file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use std::fs::{self, OpenOptions};
use std::io;

use crate::error::{Failure, Step};
use crate::limits::{Form, GroupLimits, Groups};
use crate::wire::{self, CgroupVersion, Figure, GroupFile};

use super::{Directory, Files, Hierarchy, Joined, ProcCgroup, may_write, remove_left_behind};

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

/// This process's own groups where it may make others below, each with the controllers of its hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchies(Vec<(PathBuf, Vec<Controller>)>);

impl Hierarchies {
    pub(super) fn find(own: &ProcCgroup<'_>) -> Option<Self> {
        let mut found: Vec<(PathBuf, Vec<Controller>)> = Vec::new();
        for (controller, name) in CONTROLLERS {
            let Some(path) = own.of_controller(name).filter(|path| may_write(path)) else { continue };
            match found.iter_mut().find(|(it, _)| *it == path) {
                Some((_, controllers)) => controllers.push(controller),
                None => {
                    remove_left_behind(&path);
                    found.push((path, vec![controller]));
                }
            }
        }
        (!found.is_empty()).then_some(Self(found))
    }

    pub(super) fn grants(&self) -> Groups {
        let has = |controller| self.0.iter().any(|(_, controllers)| controllers.contains(&controller));
        Groups {
            form: Form::CgroupV1,
            memory: has(Memory),
            processes: has(Pids),
            cpu_time: has(Cpuacct),
            cpu_rate: has(Cpu),
            cpu_set: has(Cpuset),
        }
    }
}

/// A container's directories, as far as its runs have needed any.
#[derive(Debug)]
pub(crate) struct Group {
    hierarchy: Arc<Hierarchy>,
    members: Vec<Member>,
    /// Whether the init knows these.
    is_told: bool,
}

#[derive(Debug)]
struct Member {
    parent: PathBuf,
    controllers: Vec<Controller>,
    directory: Directory,
    set: GroupLimits,
}

impl Group {
    pub(super) fn new(hierarchy: Arc<Hierarchy>) -> Self {
        Self { hierarchy, members: Vec::new(), is_told: false }
    }

    pub(super) fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.members.iter().map(|member| &member.directory)
    }

    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        let limited = self.members.iter().filter(|member| member.set.cpu_rate.is_some());
        limited.map(|member| &member.directory).try_for_each(|directory| directory.set(QUOTA, NO_QUOTA))
    }

    pub(super) fn forget(&mut self) {
        self.members.clear();
        self.is_told = false;
    }

    pub(super) fn renew(&mut self) {
        self.is_told = false;
        self.members.retain(|member| !member.controllers.contains(&Pids));
    }

    pub(super) fn prepare(&mut self, limits: &GroupLimits) -> Result<Option<Joined>, Failure> {
        let Hierarchy::V1(Hierarchies(hierarchies)) = &*self.hierarchy else { return Ok(None) };
        let is_needed = |controllers: &[Controller]| {
            controllers.iter().any(|controller| match controller {
                // What is always counted; and, without a group, processor time would be shared out by sessions, of which a
                // program can have as many as processes.
                Memory | Pids | Cpuacct | Cpu => true,
                Cpuset => !limits.cpu_set.is_empty(),
            })
        };
        let before = self.members.len();
        self.members.retain(|member| is_needed(&member.controllers));
        self.is_told &= self.members.len() == before;
        for (parent, controllers) in hierarchies.iter().filter(|(_, controllers)| is_needed(controllers)) {
            if !self.members.iter().any(|member| member.parent == *parent) {
                self.is_told = false;
                self.members.push(Member::make(parent, controllers)?);
            }
        }
        self.members.iter_mut().try_for_each(|member| member.apply(limits))?;
        if self.is_told {
            return Ok(None);
        }
        let mut files = Files::default();
        for member in &self.members {
            let path = &member.directory.path;
            member.files(&mut files).map_err(|error| Failure::at(Step::MakeGroup, path, error))?;
        }
        let Files { kinds, fds } = files;
        self.is_told = true;
        Ok(Some((wire::GroupFiles { version: CgroupVersion::V1, files: kinds }, fds)))
    }
}

impl Member {
    fn make(parent: &Path, controllers: &[Controller]) -> Result<Self, Failure> {
        let directory = Directory::make(parent)?;
        if controllers.contains(&Cpuset) {
            // Empty at first, and then nobody may enter.
            for (from, to) in [("cpuset.effective_cpus", "cpuset.cpus"), ("cpuset.effective_mems", "cpuset.mems")] {
                let from = parent.join(from);
                let inherited = fs::read_to_string(&from).map_err(|error| Failure::at(Step::MakeGroup, from, error))?;
                directory.set(to, inherited.trim())?;
            }
        }
        Ok(Self { parent: parent.into(), controllers: controllers.into(), directory, set: GroupLimits::default() })
    }

    /// Sets what differs from what is set.
    fn apply(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        let Self { controllers, directory, set, .. } = self;
        for controller in &*controllers {
            match controller {
                Memory if set.memory != limits.memory => {
                    set_memory(directory, set.memory, limits.memory)?;
                    set.memory = limits.memory;
                }
                Pids if set.processes != limits.processes => {
                    let most = limits.processes.map_or("max".to_owned(), |count| count.to_string());
                    directory.set("pids.max", most)?;
                    set.processes = limits.processes;
                }
                // The init has lifted the last one.
                Cpu if set.cpu_rate != limits.cpu_rate || limits.cpu_rate.is_some() => {
                    // In microseconds of a period of 100 ms.
                    directory.set(QUOTA, limits.cpu_rate.map_or(-1, |rate| rate as i64 * 100))?;
                    set.cpu_rate = limits.cpu_rate;
                }
                Cpuset if set.cpu_set != limits.cpu_set => {
                    let cpus: Vec<_> = limits.cpu_set.iter().map(u32::to_string).collect();
                    directory.set("cpuset.cpus", cpus.join(","))?;
                    set.cpu_set.clone_from(&limits.cpu_set);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn files(&self, files: &mut Files) -> io::Result<()> {
        let path = |name| self.directory.path.join(name);
        files.add(GroupFile::Tasks, &path("tasks"), OpenOptions::new().write(true))?;
        for controller in &self.controllers {
            match controller {
                Memory => {
                    files.count(Figure::MemoryNow, &path("memory.usage_in_bytes"), "", 1)?;
                    files.count(Figure::MemoryPeakSinceReset, &path("memory.max_usage_in_bytes"), "", 1)?;
                    files.count(Figure::OomKills, &path("memory.oom_control"), "oom_kill", 1)?;
                }
                Pids => {
                    files.count(Figure::ProcessesPeak, &path("pids.peak"), "", 1)?;
                    files.count(Figure::RefusedForks, &path("pids.events"), "max", 1)?;
                }
                Cpuacct => files.count(Figure::CpuTime, &path("cpuacct.usage"), "", 1)?,
                Cpu => {
                    files.count(Figure::Throttled, &path("cpu.stat"), "throttled_time", 1)?;
                    let rate = GroupFile::Rate { none: NO_QUOTA.to_owned() };
                    files.add(rate, &path(QUOTA), OpenOptions::new().write(true))?;
                }
                Cpuset => {}
            }
        }
        Ok(())
    }
}

const QUOTA: &str = "cpu.cfs_quota_us";
const NO_QUOTA: &str = "-1";

/// Memory, and memory with swap: the second is never less than the first, on the way too.
fn set_memory(directory: &Directory, before: Option<u64>, after: Option<u64>) -> Result<(), Failure> {
    let value = after.map_or("-1".to_owned(), |bytes| bytes.to_string());
    let grows = after.unwrap_or(u64::MAX) > before.unwrap_or(u64::MAX);
    let mut files = vec!["memory.limit_in_bytes"];
    // Not there where the kernel does not count swap.
    if directory.path.join("memory.memsw.limit_in_bytes").exists() {
        files.insert(if grows { 0 } else { 1 }, "memory.memsw.limit_in_bytes");
    }
    files.into_iter().try_for_each(|file| directory.set(file, &value))
}
