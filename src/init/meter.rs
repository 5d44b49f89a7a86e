//! What a run has used, as its group or its processes show it.
//!
//! Invariant: a figure is the run's own: what was counted before it began is taken off.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{SysconfVar, sysconf};
use rustix::fs::Dir;

use crate::error::{Failure, Step};
use crate::limits::Form;
use crate::report::{Measured, Source};
use crate::sys::mount::{forbid, new_file_system};
use crate::wire::{self, Counter, Figure, GroupFile};

/// The control group of the runs.
pub(super) struct Group {
    form: Form,
    tasks: Vec<OwnedFd>,
    directory: Option<OwnedFd>,
    gauges: Vec<Gauge>,
    /// Where the CPU rate is taken away, and how.
    rate: Option<(File, String)>,
}

struct Gauge {
    counter: Counter,
    file: File,
    before: u64,
}

impl Group {
    pub(super) fn new(group: wire::GroupFiles, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        if group.files.len() != fds.len() {
            return Err(Failure::new(Step::ReadGroup, nix::Error::EBADMSG));
        }
        let mut new = Self { form: group.form, tasks: Vec::new(), directory: None, gauges: Vec::new(), rate: None };
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

    /// Takes away the CPU rate, which would keep what is killed from dying.
    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        let Some((file, none)) = &self.rate else { return Ok(()) };
        match file.write_all_at(none.as_bytes(), 0) {
            // Somebody has removed the group, which can be while nobody is in it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            lifted => lifted.map_err(|error| Failure::new(Step::LiftRate, error)),
        }
    }

    /// Notes what has been counted so far.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        let begin = |gauge: &mut Gauge| {
            match gauge.counter.figure {
                // These begin with the group.
                Figure::MemoryPeak | Figure::ProcessesPeak => {}
                Figure::MemoryPeakSinceReset => gauge.file.write_all_at(b"0", 0)?,
                _ => gauge.before = gauge.read()?,
            }
            Ok(())
        };
        self.gauges.iter_mut().try_for_each(begin).map_err(|error: io::Error| Failure::new(Step::ReadGroup, error))
    }

    /// The CPU time since the beginning. `None` where the group does not count it.
    pub(super) fn cpu_time(&self) -> Result<Option<Duration>, Failure> {
        Ok(self.since(Figure::CpuTime)?.map(Duration::from_nanos))
    }

    /// Puts what the group has counted in the place of what is known otherwise.
    pub(super) fn finish(&self, measured: &mut Measured) -> Result<(), Failure> {
        let Measured { usage, sources, evidence, .. } = measured;
        let source = Source::from(self.form);
        if let Some(cpu) = self.cpu_time()? {
            (usage.cpu, sources.cpu) = (Some(cpu), source);
        }
        let before = self.gauges.iter().find(|gauge| gauge.counter.figure == Figure::MemoryNow).map(|it| it.before);
        let peak = match self.since(Figure::MemoryPeak)? {
            Some(peak) => Some(peak),
            None => self.since(Figure::MemoryPeakSinceReset)?.map(|peak| peak.saturating_sub(before.unwrap_or(0))),
        };
        if peak.is_some() {
            (usage.memory_peak_bytes, sources.memory_peak) = (peak, source);
        }
        let most = self.since(Figure::ProcessesPeak)?;
        if most.is_some() {
            (usage.processes_peak, sources.processes_peak) = (most, source);
        }
        evidence.oom_kills = self.since(Figure::OomKills)?;
        evidence.refused_forks = self.since(Figure::RefusedForks)?;
        evidence.throttled = self.since(Figure::Throttled)?.map(Duration::from_nanos);
        Ok(())
    }

    fn since(&self, figure: Figure) -> Result<Option<u64>, Failure> {
        let Some(gauge) = self.gauges.iter().find(|gauge| gauge.counter.figure == figure) else { return Ok(None) };
        let now = gauge.read().map_err(|error| Failure::new(Step::ReadGroup, error))?;
        Ok(Some(now.saturating_sub(gauge.before)))
    }
}

impl Gauge {
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

/// All processes of the container, as a proc of the init's own shows them.
pub(super) struct Processes(OwnedFd);

impl Processes {
    pub(super) fn new() -> io::Result<Self> {
        let options = [("subset".to_owned(), "pid".to_owned())];
        Ok(Self(new_file_system("proc", &options, forbid::WRITES | forbid::DEVICES | forbid::EXEC)?))
    }

    /// The CPU time of all but the init, and of what those have waited for, to the kernel's hundredth of a second.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        let directory = |path: &str| openat(&self.0, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let mut ticks = 0;
        for entry in Dir::new(directory(".")?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"1" || !name.iter().all(u8::is_ascii_digit) {
                continue;
            }
            let path = format!("{}/stat", String::from_utf8_lossy(name));
            // One that has ended since is counted by whoever waited for it.
            let Ok(stat) = directory(&path).map_err(io::Error::from).and_then(|fd| io::read_to_string(File::from(fd)))
            else {
                continue;
            };
            // The name before them is in parentheses, and may hold anything: utime, stime, cutime, cstime.
            let times = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(4));
            ticks += times.into_iter().flatten().filter_map(|time| time.parse::<u64>().ok()).sum::<u64>();
        }
        let in_a_second = sysconf(SysconfVar::CLK_TCK)?.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Duration::from_secs_f64(ticks as f64 / in_a_second as f64))
    }
}
