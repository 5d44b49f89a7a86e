//! What a run has used, as its control group or its processes show it.
//!
//! Invariant: a figure is the run's own. What was counted before the run began is subtracted,
//! except from the peak of memory: a run may free what was charged before it began, and then use as
//! much. The host makes another group where more than a little is charged.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{SysconfVar, sysconf};
use rustix::fs::Dir;

use crate::error::{Failure, ResultExt, Step};
use crate::sys::mount::{forbid, new_file_system};
use crate::wire::{CgroupVersion, Counter, Figure, GroupFigures, GroupFile, GroupFiles};

/// The control group of the main runs, or that of one run beside them.
pub(super) struct RunGroup {
    version: CgroupVersion,
    tasks: Vec<OwnedFd>,
    directory: Option<OwnedFd>,
    gauges: Vec<Gauge>,
    /// The file that holds the CPU rate, and its content for no rate.
    rate: Option<(File, String)>,
}

struct Gauge {
    counter: Counter,
    file: File,
    before: u64,
}

impl RunGroup {
    pub(super) fn new(group: GroupFiles, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        if group.files.len() != fds.len() {
            return Err(Failure::new(Step::ReadGroup, nix::Error::EBADMSG));
        }
        let mut new =
            Self { version: group.version, tasks: Vec::new(), directory: None, gauges: Vec::new(), rate: None };
        for (file, fd) in group.files.into_iter().zip(fds) {
            match file {
                GroupFile::Tasks => new.tasks.push(fd),
                GroupFile::Directory => new.directory = Some(fd),
                GroupFile::Rate { none } => new.rate = Some((fd.into(), none)),
                GroupFile::Counter(counter) => new.gauges.push(Gauge { counter, file: fd.into(), before: 0 }),
            }
        }
        Ok(new)
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = i32> {
        self.tasks.iter().map(|fd| fd.as_raw_fd())
    }

    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(|fd| fd.as_fd())
    }

    /// Lifts the CPU rate, which would keep killed processes from dying.
    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        let Some((file, none)) = &self.rate else { return Ok(()) };
        match file.write_all_at(none.as_bytes(), 0) {
            // The group was removed. That is possible while it has no process.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            lifted => lifted.step(Step::LiftRate),
        }
    }

    /// Notes what the group has counted before a run.
    pub(super) fn start_counting(&mut self) -> Result<(), Failure> {
        self.gauges.iter_mut().try_for_each(Gauge::start).step(Step::ReadGroup)
    }

    pub(super) fn counts_cpu_time(&self) -> bool {
        self.gauge(Figure::CpuTime).is_some()
    }

    /// The CPU time of the run so far. `None` if the group does not count it.
    pub(super) fn cpu_nanos(&self) -> Result<Option<u64>, Failure> {
        self.since_start(Figure::CpuTime)
    }

    /// What the group has counted for the run.
    pub(super) fn figures(&self) -> Result<GroupFigures, Failure> {
        let micros = |nanos: u64| nanos / 1000;
        Ok(GroupFigures {
            version: self.version,
            cpu_us: self.cpu_nanos()?.map(micros),
            memory_peak_bytes: self.memory_peak()?,
            processes_peak: self.since_start(Figure::ProcessesPeak)?,
            oom_kills: self.since_start(Figure::OomKills)?,
            refused_forks: self.since_start(Figure::RefusedForks)?,
            throttled_us: self.since_start(Figure::Throttled)?.map(micros),
        })
    }

    fn memory_peak(&self) -> Result<Option<u64>, Failure> {
        match self.since_start(Figure::MemoryPeak)? {
            Some(peak) => Ok(Some(peak)),
            None => self.since_start(Figure::MemoryPeakSinceReset),
        }
    }

    fn since_start(&self, figure: Figure) -> Result<Option<u64>, Failure> {
        let Some(gauge) = self.gauge(figure) else { return Ok(None) };
        let now = gauge.read().step(Step::ReadGroup)?;
        Ok(Some(now.saturating_sub(gauge.before)))
    }

    fn gauge(&self, figure: Figure) -> Option<&Gauge> {
        self.gauges.iter().find(|gauge| gauge.counter.figure == figure)
    }
}

impl Gauge {
    fn start(&mut self) -> io::Result<()> {
        match self.counter.figure {
            // These count from the creation of the group.
            Figure::MemoryPeak | Figure::ProcessesPeak => {}
            Figure::MemoryPeakSinceReset => self.file.write_all_at(b"0", 0)?,
            _ => self.before = self.read()?,
        }
        Ok(())
    }

    fn read(&self) -> io::Result<u64> {
        let mut buffer = [0; 4096];
        let size = self.file.read_at(&mut buffer, 0)?;
        let text = std::str::from_utf8(&buffer[..size]).map_err(io::Error::other)?;
        let Counter { key, unit, .. } = &self.counter;
        let figure = match key.as_str() {
            "" => Some(text),
            key => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')),
        };
        let figure = figure.and_then(|figure| figure.trim().parse::<u64>().ok());
        Ok(figure.ok_or(io::ErrorKind::InvalidData)?.saturating_mul((*unit).into()))
    }
}

/// A pid namespace, by its number in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespace(u64);

/// Whose CPU time is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// That of all processes but the init: there is one run.
    Container,
    /// That of the main run, which is in the init's own pid namespace.
    Main,
    /// That of a run beside it: the processes of its namespace and those that its reaper has
    /// reaped.
    Beside { namespace: Option<Namespace>, reaper: i32 },
}

/// The CPU time that a run has used so far: what its group counts or, without a group, that of its
/// `reaped` processes and of those that are alive.
pub(super) fn cpu_time(
    reaped: Duration,
    group: Option<&RunGroup>,
    processes: &mut Option<ProcessTable>,
    scope: Scope,
) -> Result<Duration, Failure> {
    if let Some(nanos) = group.map_or(Ok(None), RunGroup::cpu_nanos)? {
        return Ok(Duration::from_nanos(nanos));
    }
    Ok(ProcessTable::opened(processes)?.cpu_time(scope).step(Step::ReadProcesses)? + reaped)
}

/// All processes of the container, in a proc that only the init sees.
pub(super) struct ProcessTable(OwnedFd);

impl ProcessTable {
    /// The table in this place, which is opened when it is first needed.
    pub(super) fn opened(place: &mut Option<Self>) -> Result<&Self, Failure> {
        match place {
            Some(table) => Ok(table),
            None => Ok(place.insert(Self::open().step(Step::ReadProcesses)?)),
        }
    }

    fn open() -> io::Result<Self> {
        let options = [("subset".to_owned(), "pid".to_owned())];
        Ok(Self(new_file_system("proc", &options, forbid::WRITES | forbid::DEVICES | forbid::EXEC)?))
    }

    /// The pid namespace of a process. It cannot be told of a process that may still execute a
    /// program, and of no process that has been reaped.
    pub(super) fn namespace_of(&self, pid: i32) -> io::Result<Namespace> {
        self.namespace(&format!("{pid}/ns/pid"))
    }

    /// The pid namespace of the init's next children. It has a pid 1.
    pub(super) fn namespace_of_children(&self) -> io::Result<Namespace> {
        self.namespace("1/ns/pid_for_children")
    }

    fn namespace(&self, path: &str) -> io::Result<Namespace> {
        Ok(Namespace(fstatat(&self.0, path, AtFlags::empty())?.st_ino))
    }

    /// The CPU time of the processes in this scope and of the children that each has waited for, in
    /// the kernel's unit of a hundredth of a second.
    fn cpu_time(&self, scope: Scope) -> io::Result<Duration> {
        let of_main = match scope {
            Scope::Main => Some(self.namespace_of(1)?),
            Scope::Container | Scope::Beside { .. } => None,
        };
        let is_in_scope = |pid: i32| match scope {
            Scope::Container => true,
            Scope::Main => self.namespace_of(pid).ok() == of_main,
            Scope::Beside { reaper, .. } if pid == reaper => true,
            Scope::Beside { namespace, .. } => namespace.is_some() && self.namespace_of(pid).ok() == namespace,
        };
        let mut ticks = 0;
        for entry in Dir::new(self.open_at(".")?)? {
            let entry = entry?;
            let pid = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
            let Some(pid) = pid.filter(|&pid| pid != 1 && is_in_scope(pid)) else { continue };
            let stat = self.open_at(&format!("{pid}/stat"));
            // A process that has ended since is counted by its parent.
            if let Ok(stat) = stat.and_then(|fd| io::read_to_string(File::from(fd))) {
                ticks += ticks_in(&stat);
            }
        }
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
    }

    fn open_at(&self, path: &str) -> io::Result<OwnedFd> {
        Ok(openat(&self.0, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
    }
}

/// The sum of utime, stime, cutime and cstime in `/proc/PID/stat`. They follow the process's name,
/// which is in parentheses and may contain anything.
fn ticks_in(stat: &str) -> u64 {
    let times = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(4));
    times.into_iter().flatten().filter_map(|time| time.parse::<u64>().ok()).sum()
}
