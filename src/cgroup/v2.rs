//! Groups of cgroup v2.
//!
//! A container has a group with two groups below. The init is started in `init`. `box-N` has the
//! limits of the runs, and in it is `run`, into which each run is cloned. `run` is made anew if it
//! has counted a peak that it cannot start anew, or has memory charged to it. So files that earlier
//! runs left stay charged to the box, and the next run's peak is its own. A reset makes the next
//! box.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Failure, ResultExt, Step};
use crate::limits::{CgroupSupport, Form, GroupLimits};
use crate::wire::{CgroupVersion, Figure, GroupFile, Ids};

use super::charges::{Charges, are_many, empty};
use super::directory::{
    GroupDirectory, is_writable, make_group, open_directory, remove_abandoned, remove_charged, remove_group,
    write_value,
};
use super::join_request::{JoinRequest, JoinRequestBuilder};
use super::proc_cgroup::ProcCgroup;

const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "cpuset"];
const QUOTA: &str = "cpu.max";
const NO_QUOTA: &str = "max";

/// A group in which this process may make groups with controllers.
#[derive(Debug)]
pub(crate) struct V2Parent {
    path: PathBuf,
    controllers: Vec<String>,
}

impl V2Parent {
    /// Finds a group that can pass its controllers to the groups below. The root always can. Any
    /// other group can only while no process is in it.
    ///
    /// That is this process's own group, if need be after this process has moved into a group
    /// below. Otherwise it is the group above.
    pub(super) fn find(own: &ProcCgroup<'_>) -> Option<Self> {
        let (group, root) = own.of_v2()?;
        if let Some(parent) = Self::at(&group) {
            return Some(parent);
        }
        if move_below(&group) {
            if let Some(parent) = Self::at(&group) {
                return Some(parent);
            }
        }
        Self::at(group.parent().filter(|parent| parent.starts_with(root))?)
    }

    fn at(path: &Path) -> Option<Self> {
        if !is_writable(path) || !is_writable(&path.join("cgroup.procs")) || !can_have_domains(path) {
            return None;
        }
        let controllers = enable_controllers(path);
        if controllers.is_empty() {
            return None;
        }
        remove_abandoned(path);
        Some(Self { path: path.to_owned(), controllers })
    }

    pub(super) fn support(&self) -> CgroupSupport {
        CgroupSupport {
            form: Form::CgroupV2,
            memory: self.has("memory"),
            processes: self.has("pids"),
            cpu_time: true,
            cpu_rate: self.has("cpu"),
            cpu_set: self.has("cpuset"),
        }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|it| it == controller)
    }

    /// Passes those of these controllers that this parent has to the groups below `group`.
    fn pass_controllers(&self, group: &Path, controllers: &[&str]) -> Result<(), Failure> {
        let passed = controllers.iter().filter(|controller| self.has(controller));
        let words: Vec<_> = passed.map(|controller| format!("+{controller}")).collect();
        write_value(&group.join("cgroup.subtree_control"), words.join(" "))
    }
}

/// Whether the groups below can have all controllers.
///
/// A group other than the root that has a process in it can have threaded controllers only, and
/// then the groups below are of no use.
fn can_have_domains(group: &Path) -> bool {
    // Only the root has no type.
    let is_root = !group.join("cgroup.type").exists();
    is_root || fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
}

/// Enables the available controllers for the groups below. Returns all enabled ones.
fn enable_controllers(group: &Path) -> Vec<String> {
    let control = group.join("cgroup.subtree_control");
    let available = words(&group.join("cgroup.controllers"));
    let mut enabled = words(&control);
    for controller in CONTROLLERS {
        let has = |list: &[String]| list.iter().any(|it| it == controller);
        let is_missing = has(&available) && !has(&enabled);
        if is_missing && write_value(&control, format!("+{controller}")).is_ok() {
            enabled.push(controller.to_owned());
        }
    }
    enabled.retain(|controller| CONTROLLERS.contains(&&**controller));
    enabled
}

/// Moves this process into a group below `group`, if it is alone there. Returns whether it did.
fn move_below(group: &Path) -> bool {
    let own = std::process::id().to_string();
    let is_alone = fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| pids.lines().all(|pid| pid == own));
    if !is_alone || !is_writable(group) {
        return false;
    }
    let leaf = group.join("cellblock-host");
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => false,
        _ => write_value(&leaf.join("cgroup.procs"), own).is_ok(),
    }
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The groups of a container.
#[derive(Debug)]
pub(crate) struct V2Group {
    /// `None` in the group of a run beside others. Dropped first, so that it is closed when the
    /// directory is removed.
    init: Option<OwnedFd>,
    directory: GroupDirectory,
    parent: Arc<V2Parent>,
    /// The box, which has the limits.
    limited: PathBuf,
    boxes_made: u32,
    is_box_outdated: bool,
    owner: Option<Ids>,
    run: Option<RunDirectory>,
    join: Option<JoinRequest>,
    /// The limits that the box is set to.
    applied: GroupLimits,
    /// Whether a run was in the box since its CPU rate was set. The init lifts the rate at the end
    /// of a run.
    may_lack_rate: bool,
}

/// What decides whether the next run can use the group `run` again.
#[derive(Debug)]
struct RunDirectory {
    can_reset_peak: bool,
    is_used: bool,
    processes: Option<u32>,
    /// `None` without a memory controller.
    charges: Option<Charges>,
}

impl RunDirectory {
    fn fits(&self, limits: &GroupLimits) -> bool {
        (self.can_reset_peak || !self.is_used) && self.processes == limits.processes
    }
}

impl V2Group {
    pub(super) fn new(parent: Arc<V2Parent>) -> Result<Self, Failure> {
        let directory = GroupDirectory::make(&parent.path)?;
        parent.pass_controllers(&directory.path, &CONTROLLERS)?;
        let of_init = directory.path.join("init");
        make_group(&of_init)?;
        let init = open_directory(&of_init).step_at(Step::MakeGroup, of_init)?;
        let mut new = Self { init: Some(init), ..Self::within(directory, parent) };
        new.make_box()?;
        Ok(new)
    }

    /// The group of a run beside those of the container whose group is at `path`. It is below that
    /// group, so the init may clone processes into it.
    pub(super) fn beside(path: &Path, parent: Arc<V2Parent>, owner: Option<Ids>) -> Result<Self, Failure> {
        let directory = GroupDirectory::make(path)?;
        parent.pass_controllers(&directory.path, &CONTROLLERS)?;
        let mut new = Self { owner, ..Self::within(directory, parent) };
        new.make_box()?;
        Ok(new)
    }

    /// What [`beside`](Self::beside) needs.
    pub(super) fn place_beside(&self) -> (PathBuf, Arc<V2Parent>, Option<Ids>) {
        (self.directory.path.clone(), Arc::clone(&self.parent), self.owner)
    }

    fn within(directory: GroupDirectory, parent: Arc<V2Parent>) -> Self {
        Self {
            init: None,
            limited: PathBuf::new(),
            directory,
            parent,
            boxes_made: 0,
            is_box_outdated: true,
            owner: None,
            run: None,
            join: None,
            applied: GroupLimits::default(),
            may_lack_rate: false,
        }
    }

    fn make_box(&mut self) -> Result<(), Failure> {
        let limited = self.directory.path.join(format!("box-{}", self.boxes_made));
        make_group(&limited)?;
        self.boxes_made += 1;
        self.directory.set_below([self.directory.path.join("init"), limited.clone(), limited.join("run")]);
        self.run = None;
        self.applied = GroupLimits::default();
        self.limited = limited;
        self.parent.pass_controllers(&self.limited, &["memory", "pids"])?;
        // The files exist only if the kernel counts swap, and if there is a memory controller.
        for (file, value) in [("memory.swap.max", "0"), ("memory.oom.group", "1")] {
            if self.limited.join(file).exists() {
                write_value(&self.limited.join(file), value)?;
            }
        }
        self.is_box_outdated = false;
        Ok(())
    }

    pub(super) fn delegate_to(&mut self, init: Ids) -> Result<(), Failure> {
        self.owner = Some(init);
        chown_procs(&self.directory.path, init)
    }

    pub(super) fn init_directory(&self) -> Option<BorrowedFd<'_>> {
        self.init.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn remove(&mut self) {
        self.applied = GroupLimits::default();
        if are_many(&self.directory.path) {
            empty(&self.directory.path);
        }
        self.directory.remove_soon();
    }

    pub(super) fn is_ready(&self, limits: &GroupLimits) -> bool {
        !self.is_box_outdated
            && self.run.as_ref().is_some_and(|run| run.fits(limits))
            && self.applied.memory == limits.memory
            && self.has_rate(limits)
            && self.applied.cpu_set == limits.cpu_set
    }

    pub(super) fn prepare(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        if self.is_box_outdated {
            let old = self.limited.clone();
            self.make_box()?;
            remove_charged(old);
        }
        self.apply(limits)?;
        if self.run.as_ref().is_some_and(|run| run.fits(limits)) {
            return Ok(());
        }
        let path = self.limited.join("run");
        self.remake_run(&path, limits.processes)?;
        let (request, can_reset_peak) = open_files(&self.limited, &path).step_at(Step::MakeGroup, &path)?;
        let charges = charges_of(&path).step_at(Step::MakeGroup, &path)?;
        self.run = Some(RunDirectory { can_reset_peak, is_used: false, processes: limits.processes, charges });
        self.join = Some(request);
        Ok(())
    }

    pub(super) fn take_join(&mut self) -> Option<JoinRequest> {
        self.join.take()
    }

    /// The files that lift the CPU rate.
    pub(super) fn rate_files(&self) -> Vec<(PathBuf, &'static str)> {
        let limited = self.applied.cpu_rate.map(|_| (self.limited.join(QUOTA), NO_QUOTA));
        limited.into_iter().collect()
    }

    /// Notes that a run is about to begin.
    pub(super) fn begin_run(&mut self) {
        self.may_lack_rate = true;
        self.run.iter_mut().for_each(|run| run.is_used = true);
    }

    /// Has the next run make the group `run` anew.
    pub(super) fn invalidate_run(&mut self) {
        self.run = None;
    }

    /// Has the next run make the group `run` anew if this one has memory charged to it.
    pub(super) fn invalidate_charged_run(&mut self) {
        if self.run.as_ref().and_then(|run| run.charges.as_ref()).is_some_and(Charges::are_many) {
            self.invalidate_run();
        }
    }

    /// Has the next run make the box anew, which memory is charged to.
    pub(super) fn invalidate_box(&mut self) {
        self.is_box_outdated = true;
    }

    fn has_rate(&self, limits: &GroupLimits) -> bool {
        self.applied.cpu_rate == limits.cpu_rate && !(limits.cpu_rate.is_some() && self.may_lack_rate)
    }

    fn remake_run(&mut self, path: &Path, processes: Option<u32>) -> Result<(), Failure> {
        self.invalidate_run();
        remove_group(path).step_at(Step::MakeGroup, path)?;
        make_group(path)?;
        if let Some(owner) = self.owner {
            chown_procs(path, owner)?;
        }
        match processes {
            Some(processes) => write_value(&path.join("pids.max"), processes),
            None => Ok(()),
        }
    }

    /// Sets the limits that differ from the applied ones.
    fn apply(&mut self, limits: &GroupLimits) -> Result<(), Failure> {
        let has_rate = self.has_rate(limits);
        let Self { limited, applied, .. } = self;
        if applied.memory != limits.memory {
            let most = limits.memory.map_or("max".to_owned(), |bytes| bytes.to_string());
            write_value(&limited.join("memory.max"), most)?;
            applied.memory = limits.memory;
        }
        if !has_rate {
            // In microseconds of a period of 100 ms.
            let quota = limits.cpu_rate.map_or(NO_QUOTA.to_owned(), |rate| (rate * 100).to_string());
            write_value(&limited.join(QUOTA), format!("{quota} 100000"))?;
            applied.cpu_rate = limits.cpu_rate;
            self.may_lack_rate = false;
        }
        if applied.cpu_set != limits.cpu_set {
            let cpus: Vec<_> = limits.cpu_set.iter().map(u32::to_string).collect();
            // An empty line means the CPUs of the group above.
            let value = if cpus.is_empty() { "\n".to_owned() } else { cpus.join(",") };
            write_value(&limited.join("cpuset.cpus"), value)?;
            applied.cpu_set.clone_from(&limits.cpu_set);
        }
        Ok(())
    }
}

/// Gives `cgroup.procs` of a group to an init. The init may then clone processes into that group,
/// or out of the groups below it.
fn chown_procs(group: &Path, Ids { uid, gid }: Ids) -> Result<(), Failure> {
    let file = group.join("cgroup.procs");
    chown(&file, Some(uid), Some(gid)).step_at(Step::MakeGroup, file)
}

/// Opens the files of a run's group for the init. Also returns whether the next run's peak of
/// memory can start anew in this group.
fn open_files(limited: &Path, run: &Path) -> io::Result<(JoinRequest, bool)> {
    let mut request = JoinRequestBuilder::default();
    request.add(GroupFile::Directory, open_directory(run)?);
    let peak = run.join("memory.peak");
    let resets_peak = reset_peak(&peak).is_ok();
    let peak_figure = if resets_peak { Figure::MemoryPeakSinceReset } else { Figure::MemoryPeak };
    request.add_counter(peak_figure, &peak, "", 1)?;
    request.add_counter(Figure::OomKills, &limited.join("memory.events"), "oom_kill", 1)?;
    request.add_counter(Figure::ProcessesPeak, &run.join("pids.peak"), "", 1)?;
    request.add_counter(Figure::RefusedForks, &run.join("pids.events"), "max", 1)?;
    request.add_counter(Figure::CpuTime, &limited.join("cpu.stat"), "usage_usec", 1000)?;
    request.add_counter(Figure::Throttled, &limited.join("cpu.stat"), "throttled_usec", 1000)?;
    let quota = limited.join(QUOTA);
    if quota.exists() {
        request.add_writable(GroupFile::Rate { none: NO_QUOTA.to_owned() }, &quota)?;
    }
    // Without a memory controller there is no peak to reset.
    let has_memory = run.join("memory.current").exists();
    Ok((request.build(CgroupVersion::V2), resets_peak || !has_memory))
}

fn charges_of(run: &Path) -> io::Result<Option<Charges>> {
    match File::open(run.join("memory.current")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => Ok(Some(Charges::new(opened?))),
    }
}

/// Resets the peak of memory, which Linux can since 6.12. Root may open the file on any kernel, so
/// only a write tells.
fn reset_peak(peak: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(peak)?.write_all(b"0")
}
