//! What to run: a program, its arguments, and what it is given.
//!
//! Invariant: a [`Command`] is only a description. It opens nothing before it is spawned, and may be spawned many times.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::limits::{Limits, Plan, Resource, Rlimit};
use crate::seccomp::allowlist::Syscalls;
use crate::wire::{FdRole, RawRlimit, StartRun, Strings};

/// A program to run in a container, in the manner of `tokio::process::Command`.
///
/// Unless told otherwise a program has an empty environment, null streams (`/dev/null`), the container's working
/// directory, no other descriptor, the default [`Limits`], and for the rest the resource limits of the host's process, except
/// that pending signals with timers (64), locked memory (64 KiB) and real-time priorities (none) are fewer. There are no
/// POSIX message queues and no inotify: a user has few of them for all containers and everything else.
///
/// ```
/// use cellblock::Command;
///
/// let mut command = Command::new("python3");
/// command.args(["-c", "print(6 * 7)"]).env("LANG", "C.UTF-8").current_dir("/tmp");
/// ```
#[derive(Clone, Debug)]
pub struct Command {
    program: PathBuf,
    executable: Option<Arc<OwnedFd>>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    work_dir: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) syscalls: Option<Syscalls>,
    rlimits: Vec<Rlimit>,
    pub(crate) hook: Option<PidHook>,
    pub(crate) window: Window,
    pub(crate) capture: Capture,
    pub(crate) streams: [Option<Stdio>; 3],
    pub(crate) fds: Vec<(i32, Arc<OwnedFd>)>,
}

impl Command {
    /// A program by its path inside the container or, without a slash, by its name: then it is looked up in the `PATH`
    /// of the run's own environment, and without one in `/usr/local/bin:/usr/bin:/bin`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            executable: None,
            args: Vec::new(),
            env: Vec::new(),
            work_dir: None,
            limits: Limits::new(),
            syscalls: None,
            rlimits: Vec::new(),
            hook: None,
            window: Window { rows: 24, columns: 80 },
            capture: Capture { bytes: 1 << 20, overflow: Overflow::Discard },
            streams: [const { None }; 3],
            fds: Vec::new(),
        }
    }

    /// The program that a descriptor is open on, a memfd for example, sealed or not; `name` is its first argument, and stands
    /// in errors.
    ///
    /// It need not be in the container, but the interpreter and the libraries that it asks for must be. A script cannot be
    /// executed this way: `ENOEXEC`.
    pub fn from_fd(name: impl AsRef<OsStr>, fd: impl Into<OwnedFd>) -> Self {
        Self { executable: Some(Arc::new(fd.into())), ..Self::new(name) }
    }

    /// Adds an argument. The first, the program's name, is there already.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets a variable of the environment. A file `/.env` in the container, read when that is built, has more of them, a
    /// `KEY=VALUE` a line, for the runs that do not set them. The last value of a key counts.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let key = key.as_ref();
        self.env.retain(|(it, _)| it != key);
        self.env.push((key.into(), value.as_ref().into()));
        self
    }

    /// Sets variables of the environment.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, vars: impl IntoIterator<Item = (K, V)>) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Sets the directory that the program starts in; a relative one starts at the container's working directory. It is
    /// entered with the program's rights.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.work_dir = Some(dir.as_ref().into());
        self
    }

    /// Sets the program's standard input.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.streams[0] = Some(stdin.into());
        self
    }

    /// Sets the program's standard output.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.streams[1] = Some(stdout.into());
        self
    }

    /// Sets the program's standard error.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.streams[2] = Some(stderr.into());
        self
    }

    /// Sets the size that a [terminal](Stdio::pty) has at first. Default: 24 rows of 80 columns.
    pub fn window_size(&mut self, rows: u16, columns: u16) -> &mut Self {
        self.window = Window { rows, columns };
        self
    }

    /// Gives the program a copy of a descriptor under a number of its own, 3 or higher; the last for a number counts.
    ///
    /// The program gets all that the descriptor can do. A directory's, from where it could walk the host's files, and one
    /// opened with `O_PATH` are refused ([`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)), as streams too.
    /// By its name in `/proc/self/fd` a program may open a file anew, for no more than the descriptor was opened for; where
    /// the kernel has no Landlock ([`Protections::landlock`](crate::report::Protections::landlock)), for all that the file's own mode
    /// allows its user: hand over a pipe there, or a sealed memfd.
    pub fn fd(&mut self, number: i32, fd: impl Into<OwnedFd>) -> &mut Self {
        self.fds.retain(|(it, _)| *it != number);
        self.fds.push((number, Arc::new(fd.into())));
        self
    }

    /// Sets what the run may use. Default: [`Limits::new`].
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Sets the only system calls that the program may make, of those that the container's
    /// [`filter`](crate::ContainerBuilder::filter) allows. Default: all of them.
    pub fn syscalls(&mut self, syscalls: Syscalls) -> &mut Self {
        self.syscalls = Some(syscalls);
        self
    }

    /// Sets a resource limit of the program's first process, inherited by those that it starts, in the place of what the
    /// [`limits`](Self::limits) would set; `u64::MAX` is no limit.
    ///
    /// A limit over the host's own hard one fails the run with `EPERM`, whatever capabilities the host has: it is set from
    /// within the container's user namespace.
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.rlimits.retain(|limit| limit.resource != resource);
        self.rlimits.push(Rlimit { resource, soft, hard });
        self
    }

    /// Sets what is done with the program's process before its first instruction, to attach it to something: a cgroup, a
    /// tracer, a scheduling class.
    ///
    /// The hook gets the process's id, as this host sees it, and a pidfd; both mean that process for as long as the hook
    /// goes on. An `Err` refuses: the program is never executed, and the call gives [`ErrorKind::Exec`] with
    /// [`Step::PidHook`] and what the hook said. The hook is polled by the future that starts the program, and dropped with
    /// it; meanwhile the container serves its other callers. The time that it takes counts as the run's.
    ///
    /// [`ErrorKind::Exec`]: crate::ErrorKind::Exec
    /// [`Step::PidHook`]: crate::Step::PidHook
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// let mut command = Command::new("/bin/true");
    /// command.pid_hook(|pid, _pidfd| async move { std::fs::write("/sys/fs/cgroup/judge/cgroup.procs", pid.to_string()) });
    /// ```
    pub fn pid_hook<H, F>(&mut self, hook: H) -> &mut Self
    where
        H: Fn(u32, OwnedFd) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.hook = Some(PidHook(Arc::new(move |pid, pidfd| Box::pin(hook(pid, pidfd)))));
        self
    }

    /// Sets how much of each output [`Container::output`](crate::Container::output) keeps, in bytes. Default: 1 MiB.
    pub fn capture_bytes(&mut self, bytes: usize) -> &mut Self {
        self.capture.bytes = bytes;
        self
    }

    /// Sets what happens when a program writes more than is kept. Default: [`Overflow::Discard`].
    pub fn overflow(&mut self, overflow: Overflow) -> &mut Self {
        self.capture.overflow = overflow;
        self
    }

    pub(crate) fn executable(&self) -> Option<&Arc<OwnedFd>> {
        self.executable.as_ref()
    }

    /// The request for this command with its limits as planned, whose attached descriptors have these roles. With `announce`,
    /// the init names the process once it exists.
    pub(crate) fn to_start_run(&self, fds: Vec<FdRole>, announce: bool, plan: &Plan) -> Result<StartRun> {
        let mut args = Strings::default();
        for arg in std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str)) {
            args.push(&[without_nul(arg)?]);
        }
        let mut env = Strings::default();
        for (key, value) in &self.env {
            if key.is_empty() || key.as_bytes().contains(&b'=') {
                return Err(Error::invalid(format!("{key:?} cannot name a variable of the environment")));
            }
            env.push(&[without_nul(key)?, b"=", without_nul(value)?]);
        }
        if let Some(dir) = &self.work_dir {
            without_nul(dir.as_os_str())?;
        }
        if let Some((number, _)) = self.fds.iter().find(|(number, _)| *number < 3) {
            return Err(Error::invalid(format!("descriptor {number} is a standard stream's or none")));
        }
        let is_set = |limit: &&Rlimit| self.rlimits.iter().any(|it| it.resource == limit.resource);
        let planned = plan.rlimits.iter().filter(|limit| !is_set(limit));
        Ok(StartRun {
            program: self.program.clone(),
            args,
            env,
            work_dir: self.work_dir.clone(),
            fds,
            terminal: self
                .streams
                .iter()
                .position(|stream| stream.as_ref().is_some_and(Stdio::is_pty))
                .map(|number| number as i32),
            announce,
            rlimits: planned.chain(&self.rlimits).copied().map(RawRlimit::from).collect(),
            affinity: plan.affinity.clone(),
            times: plan.times,
            throttled: plan.group.cpu_rate.is_some(),
            filter: self.syscalls.as_ref().map_or(Vec::new(), |syscalls| syscalls.instructions().to_vec()),
        })
    }
}

fn without_nul(string: &OsStr) -> Result<&[u8]> {
    let bytes = string.as_bytes();
    if bytes.contains(&0) {
        return Err(Error::invalid(format!("{string:?} contains a NUL byte")));
    }
    Ok(bytes)
}

/// What a program's process is shown to before it executes anything.
#[derive(Clone)]
pub(crate) struct PidHook(Arc<dyn Fn(u32, OwnedFd) -> Decision + Send + Sync>);

type Decision = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl PidHook {
    pub(crate) fn decide(&self, pid: u32, pidfd: OwnedFd) -> Decision {
        (self.0)(pid, pidfd)
    }
}

impl fmt::Debug for PidHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PidHook")
    }
}

/// What [`Container::output`](crate::Container::output) does with a program that writes more than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Reads the rest and throws it away, so the program never waits for it.
    Discard,
    /// Kills the run.
    Kill,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// How much of each output is kept, and what becomes of the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capture {
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
}

/// Where a standard stream of a program comes from or goes to.
#[derive(Clone)]
pub struct Stdio(pub(crate) Stream);

#[derive(Clone)]
pub(crate) enum Stream {
    Null,
    Piped,
    Pty,
    Inherit,
    AsStdout,
    Fd(Arc<OwnedFd>),
    Bytes(Arc<[u8]>),
}

impl Stdio {
    /// `/dev/null`, as opened on the host.
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    /// A new pipe, whose other end the [`Process`](crate::Process) has.
    pub fn piped() -> Self {
        Self(Stream::Piped)
    }

    /// A new pseudo-terminal, whose other end the [`Process`](crate::Process) has: one for all the streams of a command that
    /// say so, and the terminal that controls the program's session (job control, Ctrl-C, `SIGWINCH`, `SIGHUP` at its end).
    ///
    /// It is one of the host's, so it has no name inside the container: tty(1) does not find it. A program that opens
    /// `/dev/tty` needs that mounted ([`Mount::device`](crate::Mount::device)).
    pub fn pty() -> Self {
        Self(Stream::Pty)
    }

    /// A copy of the host's own stream.
    pub fn inherit() -> Self {
        Self(Stream::Inherit)
    }

    /// For a standard error: where the standard output goes.
    pub fn as_stdout() -> Self {
        Self(Stream::AsStdout)
    }

    fn is_pty(&self) -> bool {
        matches!(self.0, Stream::Pty)
    }

    /// These bytes, for a standard input: in a sealed file in memory, so that no task has to write them.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Stream::Bytes(bytes.into().into()))
    }
}

/// A copy of this descriptor. Each run of the command shares its offset.
impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Self {
        Self(Stream::Fd(Arc::new(fd.into())))
    }
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stream::Null => f.write_str("Null"),
            Stream::Piped => f.write_str("Piped"),
            Stream::Pty => f.write_str("Pty"),
            Stream::Inherit => f.write_str("Inherit"),
            Stream::AsStdout => f.write_str("AsStdout"),
            Stream::Fd(fd) => write!(f, "Fd({fd:?})"),
            Stream::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}
