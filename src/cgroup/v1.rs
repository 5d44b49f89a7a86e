//! Groups of cgroup v1: one directory in each hierarchy, made for the first run and kept.
//!
//! In the hierarchy of memory that directory has the limit, and the runs are in a group below it.
//! That group is made anew after a run that leaves memory charged. So what earlier runs left counts
//! for the limit, and a run's peak is its own.
//!
//! A run enters by a write to `tasks`, not to `cgroup.procs`. A thread that moves itself takes no
//! lock that waits for an RCU grace period. After 50 ms without one, that wait takes milliseconds
//! for each file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Failure, ResultExt, Step};
use crate::limits::{CgroupSupport, Form, GroupLimits};
use crate::wire::{CgroupVersion, Figure, GroupFile};

use super::charges::{Charges, are_many, empty};
use super::directory::{GroupDirectory, is_writable, make_group, remove_abandoned};
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
    /// Whether the init knows all of these directories and no other, or will once it has `join`.
    is_joined: bool,
    join: Option<JoinRequest>,
}

/// The group's directory in one hierarchy.
#[derive(Debug)]
struct V1Member {
    parent: PathBuf,
    controllers: Vec<Controller>,
    directory: GroupDirectory,
    run: RunDirectory,
    /// How many groups of runs were made below the directory.
    runs_made: u32,
    /// The limits that the directory is set to.
    applied: GroupLimits,
    /// Whether a run was in this directory since its CPU rate was set. The init lifts the rate at
    /// the end of a run.
    may_lack_rate: bool,
    /// Whether the next run needs another directory.
    is_outdated: bool,
}

/// The group that the processes of a run enter.
#[derive(Debug)]
struct RunDirectory {
    path: PathBuf,
    /// `None` if the hierarchy does not count memory.
    charges: Option<Charges>,
    /// Whether the next run needs another group.
    is_outdated: bool,
}

impl V1Group {
    pub(super) fn new(hierarchies: Arc<V1Hierarchies>) -> Self {
        Self { hierarchies, members: Vec::new(), is_joined: false, join: None }
    }

    pub(super) fn hierarchies(&self) -> Arc<V1Hierarchies> {
        Arc::clone(&self.hierarchies)
    }

    pub(super) fn remove(&mut self) {
        for V1Member { mut directory, run, .. } in self.members.drain(..) {
            if run.charges.is_some() && are_many(&directory.path) {
                empty(&directory.path);
            }
            directory.remove_soon();
        }
    }

    pub(super) fn is_ready(&self, limits: &GroupLimits) -> bool {
        let hierarchies = self.hierarchies.hierarchies.iter();
        let needed = hierarchies.filter(|it| is_needed(&it.controllers, limits)).count();
        self.is_joined && self.members.len() == needed && self.members.iter().all(|it| it.is_ready(limits))
    }

    pub(super) fn prepare(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        self.retire_outdated(limits);
        self.make_missing(limits)?;
        self.members.iter_mut().try_for_each(|member| member.apply(limits))?;
        if !self.is_joined {
            self.join = Some(self.open_files()?);
            self.is_joined = true;
        }
        Ok(())
    }

    pub(super) fn take_join(&mut self) -> Option<JoinRequest> {
        self.join.take()
    }

    /// The files that lift the CPU rate.
    pub(super) fn rate_files(&self) -> Vec<(PathBuf, &'static str)> {
        let limited = self.members.iter().filter(|member| member.applied.cpu_rate.is_some());
        limited.map(|member| (member.directory.path.join(QUOTA), NO_QUOTA)).collect()
    }

    /// Notes that a run is about to begin.
    pub(super) fn begin_run(&mut self) {
        self.members.iter_mut().for_each(|member| member.may_lack_rate = true);
    }

    /// Has the next run make all directories anew.
    pub(super) fn invalidate(&mut self) {
        self.members.iter_mut().for_each(|member| member.is_outdated = true);
    }

    /// Has the next run make the directory anew whose peak of processes cannot start anew.
    pub(super) fn invalidate_process_counter(&mut self) {
        self.invalidate_controller(Pids);
    }

    /// Has the next run make the directory anew that memory is charged to.
    pub(super) fn invalidate_memory(&mut self) {
        self.invalidate_controller(Memory);
    }

    /// Has the next run make its group anew if this one has memory charged to it.
    pub(super) fn invalidate_charged_run(&mut self) {
        for V1Member { run, .. } in &mut self.members {
            run.is_outdated |= run.charges.as_ref().is_some_and(Charges::are_many);
        }
    }

    fn invalidate_controller(&mut self, controller: Controller) {
        let members = self.members.iter_mut().filter(|member| member.controllers.contains(&controller));
        members.for_each(|member| member.is_outdated = true);
    }

    /// Removes the directories that a run with these limits must not enter.
    fn retire_outdated(&mut self, limits: &GroupLimits) {
        let is_outdated = |it: &mut V1Member| it.is_outdated || !is_needed(&it.controllers, limits);
        for V1Member { directory, run, .. } in self.members.extract_if(.., is_outdated) {
            self.is_joined = false;
            match run.charges {
                Some(_) => directory.remove_charged(),
                None => drop(directory),
            }
        }
    }

    fn make_missing(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        for V1Hierarchy { parent, controllers } in &self.hierarchies.hierarchies {
            match self.members.iter_mut().find(|it| it.parent == *parent) {
                Some(member) if member.run.is_outdated => {
                    self.is_joined = false;
                    member.remake_run()?;
                }
                None if is_needed(controllers, limits) => {
                    self.is_joined = false;
                    self.members.push(V1Member::make(parent, controllers)?);
                }
                _ => {}
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

/// Whether the runs are in a group below the directory. A cpuset below another one would have to
/// follow its changes, so there is none.
fn is_nested(controllers: &[Controller]) -> bool {
    controllers.contains(&Memory) && !controllers.contains(&Cpuset)
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
        let run = RunDirectory { path: directory.path.clone(), charges: None, is_outdated: false };
        let mut member = Self {
            parent: parent.into(),
            controllers: controllers.into(),
            directory,
            run,
            runs_made: 0,
            applied: GroupLimits::default(),
            may_lack_rate: false,
            is_outdated: false,
        };
        if controllers.contains(&Memory) {
            member.make_run()?;
        }
        Ok(member)
    }

    /// Makes another group for the runs. What is charged to the old one counts for the directory.
    fn remake_run(&mut self) -> Result<(), Failure> {
        if !is_nested(&self.controllers) {
            *self = Self::make(&self.parent, &self.controllers)?;
            return Ok(());
        }
        let old = self.run.path.clone();
        self.make_run()?;
        // It goes with the directory if a process is still exiting.
        fs::remove_dir(old).ok();
        Ok(())
    }

    fn make_run(&mut self) -> Result<(), Failure> {
        let path = match is_nested(&self.controllers) {
            true => self.directory.path.join(format!("run-{}", self.runs_made)),
            false => self.directory.path.clone(),
        };
        if is_nested(&self.controllers) {
            self.runs_made += 1;
            make_group(&path)?;
            self.directory.set_below([path.clone()]);
        }
        let usage = path.join("memory.usage_in_bytes");
        let usage = File::open(&usage).step_at(Step::MakeGroup, usage)?;
        self.run = RunDirectory { path, charges: Some(Charges::new(usage)), is_outdated: false };
        Ok(())
    }

    /// Whether a run with these limits needs no change.
    fn is_ready(&self, limits: &GroupLimits) -> bool {
        let Self { applied, .. } = self;
        !self.is_outdated
            && !self.run.is_outdated
            && self.controllers.iter().all(|controller| match controller {
                Memory => applied.memory == limits.memory,
                Pids => applied.processes == limits.processes,
                Cpu => applied.cpu_rate == limits.cpu_rate && !(applied.cpu_rate.is_some() && self.may_lack_rate),
                Cpuset => applied.cpu_set == limits.cpu_set,
                Cpuacct => true,
            })
    }

    /// Sets the limits that differ from the applied ones.
    fn apply(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        let Self { controllers, directory, applied, may_lack_rate, .. } = self;
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
                Cpu if applied.cpu_rate != limits.cpu_rate || (limits.cpu_rate.is_some() && *may_lack_rate) => {
                    // In microseconds of a period of 100 ms.
                    directory.write(QUOTA, limits.cpu_rate.map_or(-1, |rate| rate as i64 * 100))?;
                    applied.cpu_rate = limits.cpu_rate;
                    *may_lack_rate = false;
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
        let in_run = |name| self.run.path.join(name);
        request.add_writable(GroupFile::Tasks, &in_run("tasks"))?;
        for controller in &self.controllers {
            match controller {
                Memory => {
                    request.add_counter(Figure::MemoryPeakSinceReset, &in_run("memory.max_usage_in_bytes"), "", 1)?;
                    request.add_counter(Figure::OomKills, &in_run("memory.oom_control"), "oom_kill", 1)?;
                }
                Pids => {
                    request.add_counter(Figure::ProcessesPeak, &path("pids.peak"), "", 1)?;
                    request.add_counter(Figure::RefusedForks, &in_run("pids.events"), "max", 1)?;
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
