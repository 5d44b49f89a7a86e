//! One run: a program, what it leaves, and the report.
//!
//! Invariant: there is one run at a time. When its first process ends, or its time is up, everything else in the pid
//! namespace is killed, and the run is over only when there is no child left to reap.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Failure, ResultExt, Step};
use crate::limits::{Limit, Times};
use crate::report::{Evidence, Measured, Reason, Source, Sources, Status, Usage};
use crate::seccomp::allowlist::program as program_of;
use crate::sys::child::{Children, Image, Op, Options, Outcome, Reaped, Rusage, Vector};
use crate::sys::landlock::{self, Ruleset};
use crate::sys::process;
use crate::wire::{FdRole, Ids, Reply, StartRun, Strings};

use super::meter::{Group, Processes};
use super::{End, files};

/// Where programs are looked for when the run's environment names no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Where a container keeps variables for the runs that do not set them.
const ENVIRONMENT: &str = "/.env";

/// By how much a CPU time limit may be overrun, beside what the kernel's figures are late.
const SLACK: Duration = Duration::from_millis(1);

pub(super) struct Runner {
    children: Children<Step>,
    program: Ids,
    has_landlock: bool,
    defaults: Strings,
    group: Option<Group>,
    /// Made for the first run whose CPU time no group counts.
    processes: Option<Processes>,
    run: Option<Run>,
}

struct Run {
    id: u64,
    received: Option<Duration>,
    start: Instant,
    times: Times,
    throttled: bool,
    /// When the CPU time is looked at next: it cannot have been used up before.
    next_look: Option<Instant>,
    killed: Option<Reason>,
    /// What a failure to start is about.
    program: PathBuf,
    work_dir: Option<PathBuf>,
    ended: Option<Ended>,
    given_up: Option<Failure>,
    user: Duration,
    system: Duration,
    peak_bytes: u64,
}

/// How the first process ended.
struct Ended {
    status: Status,
    outcome: Outcome<Step>,
    /// Whether what the program left has been killed.
    is_swept: bool,
}

impl Runner {
    pub(super) fn new(program: Ids) -> Result<Self, Failure> {
        let children = Children::new().map_err(|error| Failure::new(Step::ResetInherited, error))?;
        let defaults = default_environment()?;
        let has_landlock = landlock::is_supported();
        Ok(Self { children, program, has_landlock, defaults, group: None, processes: None, run: None })
    }

    /// From now on runs are in this group.
    pub(super) fn join(&mut self, group: Group) {
        self.group = Some(group);
    }

    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Starts a program. The descriptors are closed here once the child has its own copies. Returns the pidfd of a run that
    /// is to be announced.
    pub(super) fn start(&mut self, id: u64, execve: StartRun, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
        let received = process::monotonic_time();
        let fds = above(execve.fds.iter().filter_map(FdRole::number_in_program).max().unwrap_or(0).max(2), fds)?;
        let attached = Attached::new(&execve.fds, &fds)?;
        let (program, work_dir) = (execve.program.clone(), execve.work_dir.clone());
        let (times, throttled) = (execve.times, execve.throttled);
        let (may_wait, wants_pidfd) = (throttled || attached.gate.is_some(), execve.announce);
        let ruleset = if self.has_landlock { Ruleset::for_files(fds.iter().map(AsFd::as_fd)) } else { Ok(None) };
        let ruleset = ruleset.map_err(|error| Failure::new(Step::RestrictFiles, error))?;
        let ops = self.steps(execve, attached, ruleset.as_ref())?;
        self.group.as_mut().map_or(Ok(()), Group::begin)?;
        let start = Instant::now();
        let group = self.group.as_ref().and_then(Group::directory);
        let pidfd = self.children.start(ops, Options { group, may_wait, wants_pidfd }).step(Step::Clone)?;
        self.run = Some(Run {
            id,
            received,
            start,
            times,
            throttled,
            next_look: times.cpu.and_then(|limit| start.checked_add(limit / times.cpus.max(1))),
            killed: None,
            program,
            work_dir,
            ended: None,
            given_up: None,
            user: Duration::ZERO,
            system: Duration::ZERO,
            peak_bytes: 0,
        });
        Ok(pidfd)
    }

    /// Ends the run with this id, if it is the one that is running. The first reason counts, and none that comes after the
    /// program's own end.
    pub(super) fn kill(&mut self, id: u64, reason: Reason) -> Result<(), End> {
        if let Some(run) = self.run.as_mut().filter(|run| run.id == id) {
            if run.ended.is_none() {
                run.killed.get_or_insert(reason);
            }
            self.kill_all()?;
        }
        Ok(())
    }

    /// Kills everybody, and sees to it that they can die.
    fn kill_all(&self) -> Result<(), Failure> {
        self.lift_rate()?;
        process::kill_all_others().map_err(|error| Failure::new(Step::Wait, error))
    }

    /// Takes away the CPU rate of the run that is going on.
    pub(super) fn lift_rate(&self) -> Result<(), Failure> {
        let group = self.group.as_ref().filter(|_| self.run.as_ref().is_some_and(|run| run.throttled));
        group.map_or(Ok(()), Group::lift_rate)
    }

    /// For how long there is nothing to look at unless a child ends; for ever where it is `None`.
    pub(super) fn patience(&self) -> Option<Duration> {
        let run = self.run.as_ref().filter(|run| run.killed.is_none() && run.ended.is_none())?;
        let next = run.wall_end().into_iter().chain(run.next_look).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Looks at the times, and ends the run where one is up.
    pub(super) fn look(&mut self) -> Result<(), End> {
        let Some(run) = self.run.as_ref().filter(|run| run.killed.is_none() && run.ended.is_none()) else {
            return Ok(());
        };
        let (id, now) = (run.id, Instant::now());
        if run.wall_end().is_some_and(|end| now >= end) {
            return self.kill(id, Reason::Limit(Limit::WallTime));
        }
        let Some(limit) = run.times.cpu.filter(|_| run.next_look.is_some_and(|look| now >= look)) else {
            return Ok(());
        };
        let used = self.cpu_time()?;
        if used >= limit {
            return self.kill(id, Reason::Limit(Limit::CpuTime));
        }
        if let Some(run) = &mut self.run {
            run.next_look = now.checked_add((limit - used + SLACK) / run.times.cpus.max(1));
        }
        Ok(())
    }

    /// What the run has used so far.
    fn cpu_time(&mut self) -> Result<Duration, Failure> {
        if let Some(time) = self.group.as_ref().map_or(Ok(None), Group::cpu_time)? {
            return Ok(time);
        }
        let failure = |error| Failure::new(Step::ReadProcesses, error);
        let processes = match &self.processes {
            Some(processes) => processes,
            None => self.processes.insert(Processes::new().map_err(failure)?),
        };
        let reaped = self.run.as_ref().map_or(Duration::ZERO, |run| run.user + run.system);
        Ok(processes.cpu_time().map_err(failure)? + reaped)
    }

    /// Ends the run that has just been started; this will be its reply.
    pub(super) fn give_up(&mut self, failure: Failure) -> Result<(), End> {
        let Some(run) = &mut self.run else { return Ok(()) };
        run.given_up = Some(failure);
        let id = run.id;
        self.kill(id, Reason::Request)
    }

    /// Reaps all that has ended. Gives the reply to the run once it is over.
    pub(super) fn reap(&mut self) -> Result<Option<(u64, Reply)>, End> {
        loop {
            let reaped = self.children.reap().map_err(|error| Failure::new(Step::Wait, error))?;
            let Some(run) = &mut self.run else {
                return Ok(None);
            };
            match reaped {
                Reaped::Program { status, usage, outcome } => {
                    run.add(usage);
                    run.ended = Some(Ended { status: Status::from_wait(status), outcome, is_swept: false });
                }
                Reaped::Orphan(usage) => run.add(usage),
                Reaped::Alive => match &mut run.ended {
                    // Kill first, wait after: a traced zombie is released only by its tracer's death.
                    Some(ended) if !ended.is_swept => {
                        ended.is_swept = true;
                        self.kill_all()?;
                    }
                    _ => return Ok(None),
                },
                // Every process of the namespace has an ancestor that is a child of pid 1, so none is left.
                Reaped::Nobody => {
                    let run = self.run.take().ok_or_else(|| End::Fatal("a run ended twice".into()))?;
                    return Ok(Some((run.id, run.reply(self.group.as_ref())?)));
                }
            }
        }
    }

    fn steps(&self, execve: StartRun, fds: Attached, files: Option<&Ruleset>) -> Result<Vec<(Step, Op)>, Failure> {
        let StartRun { program, args, mut env, work_dir, terminal, rlimits, affinity, filter, .. } = execve;
        env.add_missing(&self.defaults);
        let mut steps = Vec::new();
        steps.extend(fds.gate.map(|gate| (Step::PidHook, Op::PassGate(gate))));
        if let Some(group) = &self.group {
            steps.extend(group.tasks().map(|fd| (Step::EnterGroup, Op::EnterGroup(fd))));
            // As its own root, or the group's name would show.
            steps.push((Step::EnterGroup, Op::NewCgroupNamespace));
        }
        // Before its number is another descriptor's.
        steps.extend(files.map(|ruleset| (Step::RestrictFiles, Op::RestrictFiles(ruleset.as_raw_fd()))));
        if !affinity.is_empty() {
            steps.push((Step::SetAffinity, Op::SetAffinity(mask(&affinity))));
        }
        steps.push((Step::StartSession, Op::StartSession));
        // The init's own 0 and 1 are /dev/null, and are what its child starts with; 2 is the host's pipe.
        if !fds.program.iter().any(|&(_, to)| to == 2) {
            steps.push((Step::PlaceFd, Op::Place { from: 0, to: 2 }));
        }
        let kept = fds.program.iter().map(|&(_, to)| to).chain(fds.executable).collect();
        steps.extend(fds.program.iter().map(|&(from, to)| (Step::PlaceFd, Op::Place { from, to })));
        steps.extend(terminal.map(|fd| (Step::TakeTerminal, Op::TakeTerminal(fd))));
        steps.extend(rlimits.iter().map(|limit| {
            let (resource, soft, hard) = (limit.resource.number(), limit.soft, limit.hard);
            (Step::SetLimit, Op::Limit { resource, soft, hard })
        }));
        let Ids { uid, gid } = self.program;
        if uid != 0 {
            steps.push((Step::SetIds, Op::SetIds { uid, gid }));
        }
        steps.push((Step::DropCapabilities, Op::DropCapabilities));
        // An earlier program may have made a link of what comes next, to the init's own by their names in proc.
        steps.extend(others(kept).map(|close| (Step::PlaceFd, close)));
        // With the program's rights, which are all that it may use to get there.
        if let Some(dir) = &work_dir {
            steps.push((Step::ChangeDirectory, Op::ChangeDirectory(c_path(Step::ChangeDirectory, dir)?)));
        }
        steps.push((Step::ClearSignalMask, Op::ClearSignalMask));
        if !filter.is_empty() {
            steps.push((Step::InstallFilter, Op::InstallFilter(program_of(&filter))));
        }
        let image = match fds.executable {
            Some(fd) => Image::Descriptor(fd),
            None => Image::FirstOf(candidates(&program, &env)?),
        };
        let (args, env) = (Vector::new(args.into_bytes()), Vector::new(env.into_bytes()));
        steps.push((Step::Exec, Op::Exec { image, args, env }));
        Ok(steps)
    }
}

impl Run {
    fn add(&mut self, usage: Rusage) {
        self.user += usage.user;
        self.system += usage.system;
        self.peak_bytes = self.peak_bytes.max(usage.peak_bytes);
    }

    fn wall_end(&self) -> Option<Instant> {
        self.times.wall.and_then(|limit| self.start.checked_add(limit))
    }

    fn reply(self, group: Option<&Group>) -> Result<Reply, End> {
        if let Some(failure) = self.given_up {
            return Ok(Reply::Failed(failure));
        }
        let Some(Ended { status, outcome: Outcome { failure, executed }, .. }) = self.ended else {
            return Err(End::Fatal("the program was reaped by somebody else".into()));
        };
        let Some((step, errno)) = failure else {
            let usage = Usage {
                wall: Some(self.start.elapsed()),
                cpu: Some(self.user + self.system),
                user: Some(self.user),
                system: Some(self.system),
                memory_peak_bytes: Some(self.peak_bytes),
                processes_peak: None,
                set_up: executed.zip(self.received).and_then(|(executed, received)| executed.checked_sub(received)),
            };
            let sources = Sources {
                wall: Source::Clock,
                cpu: Source::Wait4,
                user_and_system: Source::Wait4,
                memory_peak: Source::Wait4,
                processes_peak: Source::Nowhere,
            };
            let evidence = Evidence::default();
            let mut measured = Measured { status, killed: self.killed, usage, sources, evidence };
            if let Some(Err(failure)) = group.map(|group| group.finish(&mut measured)) {
                return Ok(Reply::Failed(failure));
            }
            return Ok(Reply::Ended(measured));
        };
        let path = match step {
            Step::Exec => Some(self.program),
            Step::ChangeDirectory => self.work_dir,
            _ => None,
        };
        Ok(Reply::Failed(Failure { step, errno, path }))
    }
}

/// The numbers of a run's descriptors here, by their roles.
#[derive(Default)]
struct Attached {
    /// Each with its number in the program.
    program: Vec<(i32, i32)>,
    executable: Option<i32>,
    gate: Option<i32>,
}

impl Attached {
    fn new(roles: &[FdRole], fds: &[OwnedFd]) -> Result<Self, Failure> {
        let mut attached = Self::default();
        let mut are_clear = roles.len() == fds.len();
        for (role, fd) in roles.iter().zip(fds.iter().map(AsRawFd::as_raw_fd)) {
            match role {
                FdRole::Program(to) => attached.program.push((fd, *to)),
                FdRole::Executable => are_clear &= attached.executable.replace(fd).is_none(),
                FdRole::Gate => are_clear &= attached.gate.replace(fd).is_none(),
            }
        }
        if are_clear { Ok(attached) } else { Err(Failure::new(Step::PlaceFd, nix::Error::EBADMSG)) }
    }
}

/// The CPUs as the kernel takes them.
fn mask(cpus: &[u32]) -> Vec<u64> {
    let words = cpus.iter().max().map_or(0, |&most| most as usize / 64 + 1);
    let mut mask = vec![0; words];
    for cpu in cpus {
        mask[*cpu as usize / 64] |= 1 << (cpu % 64);
    }
    mask
}

/// Closes all descriptors but the standard streams and these.
fn others(mut kept: Vec<i32>) -> impl Iterator<Item = Op> {
    kept.retain(|&number| number > 2);
    kept.sort_unstable();
    let firsts = [3].into_iter().chain(kept.clone().into_iter().map(|number| number as u32 + 1));
    let lasts = kept.into_iter().map(|number| number as u32 - 1).chain([u32::MAX]);
    firsts.zip(lasts).filter(|(first, last)| first <= last).map(|(first, last)| Op::Close { first, last })
}

/// Moves the fds to numbers above `highest`, so that placing one never overwrites another.
fn above(highest: i32, fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Failure> {
    let move_up = |fd: OwnedFd| {
        if fd.as_raw_fd() > highest { Ok(fd) } else { super::duplicate_from(&fd, highest.saturating_add(1)) }
    };
    fds.into_iter().map(move_up).collect::<io::Result<_>>().map_err(|error| Failure::new(Step::PlaceFd, error))
}

/// Where the program may be: itself where its name has a slash, otherwise in each directory of the run's PATH.
fn candidates(program: &Path, env: &Strings) -> Result<Vec<CString>, Failure> {
    let name = program.as_os_str().as_bytes();
    if name.is_empty() {
        return Err(Failure::at(Step::Exec, program, nix::Error::ENOENT));
    }
    if name.contains(&b'/') {
        return Ok(vec![c_path(Step::Exec, program)?]);
    }
    let path = env.iter().find_map(|variable| variable.strip_prefix(b"PATH=")?.strip_suffix(&[0]));
    let dirs = path.unwrap_or(DEFAULT_PATH).split(|&byte| byte == b':');
    // An empty directory is the working directory.
    let in_dir = |dir: &[u8]| Path::new(std::ffi::OsStr::from_bytes(dir)).join(program);
    dirs.map(|dir| c_path(Step::Exec, &in_dir(dir))).collect()
}

/// The variables of [`ENVIRONMENT`], if the container has one: a `KEY=VALUE` a line, the value as it stands. Empty lines
/// and those that begin with `#` are left out; any other is an error that names its number.
fn default_environment() -> Result<Strings, Failure> {
    let mut variables = Strings::default();
    let content = match files::read(Path::new(ENVIRONMENT)) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(variables),
        content => content.map_err(|error| Failure::at(Step::ReadEnvironment, ENVIRONMENT, error))?,
    };
    for (number, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) || !line.contains(&b'=') || line.starts_with(b"=") {
            let place = format!("{ENVIRONMENT}:{}", number + 1);
            return Err(Failure::at(Step::ReadEnvironment, place, nix::Error::EINVAL));
        }
        variables.push(&[line]);
    }
    Ok(variables)
}

fn c_path(step: Step, path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Failure::at(step, path, nix::Error::EINVAL))
}
