//! Groups of cgroup v2.
//!
//! A container has a directory with two below: `init`, in which its init is started, and `box`, which has the limits of the
//! runs. In that is `run`, into which each run is cloned, and which is made anew where it has counted a peak that it cannot
//! begin again. So files that earlier runs left stay charged to the box, and the next run's peak is its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::error::{Failure, Step};
use crate::limits::{Form, GroupLimits, Groups};
use crate::wire::{self, CgroupVersion, Figure, GroupFile, Ids};

use super::{Directory, Files, Joined, ProcCgroup, directory, may_write, remove, remove_left_behind, set};

const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "cpuset"];

/// A group with controllers that this process may make others in.
#[derive(Debug)]
pub(crate) struct Tree {
    base: PathBuf,
    controllers: Vec<String>,
}

impl Tree {
    /// This process's own group, if it can give its controllers to groups below: the root always can, another one only
    /// while no process is in it. Otherwise the group above, if that does.
    pub(super) fn find(own: &ProcCgroup<'_>) -> Option<Self> {
        let (group, root) = own.of_v2()?;
        Self::at(&group)
            .or_else(|| {
                make_way(&group)?;
                Self::at(&group)
            })
            .or_else(|| Self::at(group.parent().filter(|parent| parent.starts_with(root))?))
    }

    fn at(base: &Path) -> Option<Self> {
        if !may_write(base) || !may_write(&base.join("cgroup.procs")) {
            return None;
        }
        // With a process in it a group other than the root may have threaded controllers only, and what is below it then is
        // of no use. Only the root has no type.
        let is_root = !base.join("cgroup.type").exists();
        if !is_root && !fs::read_to_string(base.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty()) {
            return None;
        }
        let available = words(&base.join("cgroup.controllers"));
        let mut controllers = words(&base.join("cgroup.subtree_control"));
        for controller in CONTROLLERS {
            let is_missing =
                available.iter().any(|it| it == controller) && !controllers.iter().any(|it| it == controller);
            if is_missing && set(&base.join("cgroup.subtree_control"), format!("+{controller}")).is_ok() {
                controllers.push(controller.to_owned());
            }
        }
        controllers.retain(|controller| CONTROLLERS.contains(&&**controller));
        if controllers.is_empty() {
            return None;
        }
        remove_left_behind(base);
        Some(Self { base: base.to_owned(), controllers })
    }

    pub(super) fn grants(&self) -> Groups {
        let has = |controller| self.controllers.iter().any(|it| it == controller);
        Groups {
            form: Form::CgroupV2,
            memory: has("memory"),
            processes: has("pids"),
            cpu_time: true,
            cpu_rate: has("cpu"),
            cpu_set: has("cpuset"),
        }
    }
}

/// Moves this process, where it is alone in its group, into one below.
fn make_way(group: &Path) -> Option<()> {
    let own = std::process::id().to_string();
    let is_alone = fs::read_to_string(group.join("cgroup.procs")).ok()?.lines().all(|pid| pid == own);
    if !is_alone || !may_write(group) {
        return None;
    }
    let leaf = group.join("cellblock-host");
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => None,
        _ => set(&leaf.join("cgroup.procs"), own).ok(),
    }
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[derive(Debug)]
pub(crate) struct Group {
    /// Dropped first: nothing of it is needed any more when the directory is removed.
    init: OwnedFd,
    container: Directory,
    owner: Option<Ids>,
    run: Option<Run>,
    set: GroupLimits,
}

#[derive(Debug)]
struct Run {
    /// Whether the peak of its memory can begin again.
    resets: bool,
    processes: Option<u32>,
}

impl Group {
    pub(super) fn new(tree: &Tree) -> Result<Self, Failure> {
        let container = Directory::make(&tree.base)?;
        let enable = |directory: &Path, controllers: &[&str]| {
            let own = controllers.iter().filter(|controller| tree.controllers.iter().any(|it| it == *controller));
            let words: Vec<_> = own.map(|controller| format!("+{controller}")).collect();
            set(&directory.join("cgroup.subtree_control"), words.join(" "))
        };
        let make = |path: &Path| fs::create_dir(path).map_err(|error| Failure::at(Step::MakeGroup, path, error));
        enable(&container.path, &CONTROLLERS)?;
        let (of_init, of_runs) = (container.path.join("init"), container.path.join("box"));
        make(&of_init)?;
        make(&of_runs)?;
        enable(&of_runs, &["memory", "pids"])?;
        // A kernel without swap accounting has no such file; the other is there where the controller is.
        for (file, value) in [("memory.swap.max", "0"), ("memory.oom.group", "1")] {
            if of_runs.join(file).exists() {
                set(&of_runs.join(file), value)?;
            }
        }
        let init = directory(&of_init).map_err(|error| Failure::at(Step::MakeGroup, of_init, error))?;
        Ok(Self { init, container, owner: None, run: None, set: GroupLimits::default() })
    }

    pub(super) fn give(&mut self, init: Ids) -> Result<(), Failure> {
        self.owner = Some(init);
        give(&self.container.path, init)
    }

    pub(super) fn of_init(&self) -> BorrowedFd<'_> {
        self.init.as_fd()
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.container
    }

    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        match self.set.cpu_rate {
            Some(_) => set(&self.container.path.join("box").join(QUOTA), NO_QUOTA),
            None => Ok(()),
        }
    }

    pub(super) fn renew(&mut self) {
        self.run = None;
    }

    pub(super) fn prepare(&mut self, limits: &GroupLimits) -> Result<Option<Joined>, Failure> {
        let of_runs = self.container.path.join("box");
        self.apply(&of_runs, limits)?;
        let path = of_runs.join("run");
        if self.run.as_ref().is_some_and(|run| run.resets && run.processes == limits.processes) {
            return Ok(None);
        }
        let failure = |error: io::Error| Failure::at(Step::MakeGroup, &path, error);
        remove(&path).map_err(failure)?;
        fs::create_dir(&path).map_err(failure)?;
        self.owner.map_or(Ok(()), |owner| give(&path, owner))?;
        if let Some(processes) = limits.processes {
            set(&path.join("pids.max"), processes)?;
        }
        let (resets, joined) = join(&of_runs, &path).map_err(failure)?;
        self.run = Some(Run { resets, processes: limits.processes });
        Ok(Some(joined))
    }

    /// Sets what differs from what is set.
    fn apply(&mut self, of_runs: &Path, limits: &GroupLimits) -> Result<(), Failure> {
        if self.set.memory != limits.memory {
            let most = limits.memory.map_or("max".to_owned(), |bytes| bytes.to_string());
            set(&of_runs.join("memory.max"), most)?;
            self.set.memory = limits.memory;
        }
        // The init has lifted the last one.
        if self.set.cpu_rate != limits.cpu_rate || limits.cpu_rate.is_some() {
            // In microseconds of a period of 100 ms.
            let quota = limits.cpu_rate.map_or(NO_QUOTA.to_owned(), |rate| (rate * 100).to_string());
            set(&of_runs.join(QUOTA), format!("{quota} 100000"))?;
            self.set.cpu_rate = limits.cpu_rate;
        }
        if self.set.cpu_set != limits.cpu_set {
            let cpus: Vec<_> = limits.cpu_set.iter().map(u32::to_string).collect();
            // Nothing is what the group above has.
            set(&of_runs.join("cpuset.cpus"), if cpus.is_empty() { "\n".to_owned() } else { cpus.join(",") })?;
            self.set.cpu_set.clone_from(&limits.cpu_set);
        }
        Ok(())
    }
}

const QUOTA: &str = "cpu.max";
const NO_QUOTA: &str = "max";

/// Lets an init of these ids clone into a group, or out of what is below it.
fn give(group: &Path, Ids { uid, gid }: Ids) -> Result<(), Failure> {
    let file = group.join("cgroup.procs");
    chown(&file, Some(uid), Some(gid)).map_err(|error| Failure::at(Step::MakeGroup, file, error))
}

/// The files for the init, and whether the peak of the memory can begin again (Linux 6.12).
fn join(of_runs: &Path, run: &Path) -> io::Result<(bool, Joined)> {
    let mut files = Files::default();
    files.fds.push(directory(run)?.into());
    files.kinds.push(GroupFile::Directory);
    let peak = run.join("memory.peak");
    // Root may open it whatever the kernel can do.
    let reset = || OpenOptions::new().write(true).open(&peak)?.write_all(b"0");
    let resets = reset().is_ok();
    files.count(Figure::MemoryNow, &run.join("memory.current"), "", 1)?;
    files.count(if resets { Figure::MemoryPeakSinceReset } else { Figure::MemoryPeak }, &peak, "", 1)?;
    files.count(Figure::OomKills, &of_runs.join("memory.events"), "oom_kill", 1)?;
    files.count(Figure::ProcessesPeak, &run.join("pids.peak"), "", 1)?;
    files.count(Figure::RefusedForks, &run.join("pids.events"), "max", 1)?;
    files.count(Figure::CpuTime, &of_runs.join("cpu.stat"), "usage_usec", 1000)?;
    files.count(Figure::Throttled, &of_runs.join("cpu.stat"), "throttled_usec", 1000)?;
    let quota = of_runs.join(QUOTA);
    if quota.exists() {
        files.add(GroupFile::Rate { none: NO_QUOTA.to_owned() }, &quota, OpenOptions::new().write(true))?;
    }
    let Files { kinds, fds } = files;
    // Without a memory controller there is no peak to begin again.
    let has_memory = run.join("memory.current").exists();
    Ok((resets || !has_memory, (wire::GroupFiles { version: CgroupVersion::V2, files: kinds }, fds)))
}
