//! Commands: a program, its arguments and everything that it is given.
//!
//! A [`Command`] is only a description. It opens nothing before it is run, and may be run many
//! times.

mod capture;
mod environment;
mod hook;
mod stdio;
mod text;

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::limits::{Limits, Plan, Resource, Rlimit};
use crate::seccomp::allowlist::Syscalls;
use crate::wire::{FdRole, RawRlimit, StartRun, Strings};

pub(crate) use capture::Capture;
pub use capture::Overflow;
use environment::Environment;
pub(crate) use hook::PidHook;
pub use stdio::Stdio;
pub(crate) use stdio::{Stream, Window};
use text::without_nul;

/// A program to run in a container, in the manner of `tokio::process::Command`.
///
/// A call that runs a command takes a `Command`, a `&Command` or, from a chain of settings, a
/// `&mut Command`. To keep a command that was made in one expression, end the chain with
/// `.clone()`.
///
/// By default a program has
/// - no arguments beside its name, and no variable in its environment but `HOME`, which is the
///   container's [working directory](crate::ContainerBuilder::work_dir);
/// - null streams (`/dev/null`), and no other descriptor;
/// - that directory as its own;
/// - the default [`Limits`];
/// - otherwise the host process's resource limits, except for fewer pending signals with timers
///   (64), less locked memory (64 KiB) and no real-time priorities. POSIX message queues and
///   inotify are not available: the kernel counts both for a user, across all containers and other
///   processes.
///
/// ```
/// use cellblock::Command;
///
/// # async fn example(container: cellblock::Container) -> cellblock::Result<()> {
/// let output = container.output(Command::new("wc").arg("-c").stdin("6 * 7")).await?;
///
/// let python = Command::new("python3").env("LANG", "C.UTF-8").current_dir("/tmp").clone();
/// let output = container.output(python.clone().args(["-c", "print(6 * 7)"])).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until a container runs it"]
pub struct Command {
    program: PathBuf,
    executable: Option<Arc<OwnedFd>>,
    args: Vec<OsString>,
    env: Environment,
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
    /// A program by its path inside the container, or by its name.
    ///
    /// A name, which has no slash, is looked up in the `PATH` of the run's own environment. Without
    /// `PATH` the search path is `/usr/local/bin:/usr/bin:/bin`.
    ///
    /// ```no_run
    /// # async fn example(container: cellblock::Container) -> cellblock::Result<()> {
    /// use cellblock::Command;
    ///
    /// let report = container.run(&Command::new("/bin/true")).await?;
    /// assert!(report.status.success());
    /// # Ok(()) }
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            executable: None,
            args: Vec::new(),
            env: Environment::default(),
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

    /// The program in an open file, such as a memfd, sealed or not. `name` is the program's first
    /// argument, and names the program in errors.
    ///
    /// The file need not be in the container, but the interpreter and the libraries that it needs
    /// must be. A script cannot be executed this way: `ENOEXEC`.
    pub fn from_fd(name: impl AsRef<OsStr>, fd: impl Into<OwnedFd>) -> Self {
        Self { executable: Some(Arc::new(fd.into())), ..Self::new(name) }
    }

    /// Adds an argument. The program's name, which is the first argument, is already there.
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// let mut command = Command::new("head");
    /// command.arg("-n").arg("1").arg("input.txt");
    /// ```
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets an environment variable. The last value of a key counts.
    ///
    /// A file `/.env` in the container, with one `KEY=VALUE` a line, has further variables for runs
    /// that do not set them. It is read once, when the container is built.
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// let mut command = Command::new("python3");
    /// command.env("PYTHONHASHSEED", "0").env("LANG", "C.UTF-8");
    /// ```
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.set(key.as_ref(), Some(value.as_ref().into()));
        self
    }

    /// Sets environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, vars: impl IntoIterator<Item = (K, V)>) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Removes an environment variable, the container's default of that name included.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.set(key.as_ref(), None);
        self
    }

    /// Removes all environment variables, the container's defaults included. Variables that are set
    /// after this call stay.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env.clear();
        self
    }

    /// Sets the directory that the program starts in. A relative path starts at the container's
    /// working directory. The directory is entered with the program's rights.
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// let mut command = Command::new("ls");
    /// command.current_dir("/tmp");
    /// ```
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.work_dir = Some(dir.as_ref().into());
        self
    }

    /// Sets the program's standard input: text or bytes, a file or another descriptor, or a
    /// [`Stdio`].
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// let mut command = Command::new("sort");
    /// command.stdin("b\na\n");
    ///
    /// // A file of the host.
    /// # fn example() -> std::io::Result<()> {
    /// # let mut command = Command::new("sort");
    /// command.stdin(std::fs::File::open("/srv/tests/1.in")?);
    /// # Ok(()) }
    /// ```
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

    /// Sets the initial size of a [terminal](Stdio::pty). Default: 24 rows of 80 columns.
    pub fn window_size(&mut self, rows: u16, columns: u16) -> &mut Self {
        self.window = Window { rows, columns };
        self
    }

    /// Gives the program a copy of a descriptor, as descriptor `number`, which is 3 or higher. The
    /// last descriptor for a number counts.
    ///
    /// The program can do everything that the descriptor can do. Directories and descriptors opened
    /// with `O_PATH` are refused ([`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)),
    /// also as streams, because a program could reach the host's files from them.
    ///
    /// A program may reopen a file by its name in `/proc/self/fd`, but only for what the descriptor
    /// is open for. On a kernel without Landlock
    /// ([`Protections::landlock`](crate::report::Protections::landlock)) it may reopen the file for
    /// everything that the file's mode allows the program's user: give it a pipe or a sealed memfd
    /// there.
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// # fn example() -> std::io::Result<()> {
    /// let (reader, writer) = std::io::pipe()?;
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "echo score 7 >&3"]).fd(3, writer);
    /// # drop(reader);
    /// # Ok(()) }
    /// ```
    pub fn fd(&mut self, number: i32, fd: impl Into<OwnedFd>) -> &mut Self {
        self.fds.retain(|(it, _)| *it != number);
        self.fds.push((number, Arc::new(fd.into())));
        self
    }

    /// Sets what the run may use. Default: [`Limits::new`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use cellblock::{Command, Limits};
    ///
    /// let mut command = Command::new("./solution");
    /// command.limits(Limits::new().cpu_time(Duration::from_secs(1)).memory(64 << 20));
    /// ```
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.limits = limits;
        self
    }

    /// Restricts the program to these system calls. The container's
    /// [`filter`](crate::ContainerBuilder::filter) applies as well. Default: no further
    /// restriction.
    pub fn syscalls(&mut self, syscalls: Syscalls) -> &mut Self {
        self.syscalls = Some(syscalls);
        self
    }

    /// Sets a resource limit of the program's first process, which its children inherit. It takes
    /// the place of the resource limit that the [`limits`](Self::limits) would set. `u64::MAX` is
    /// no limit.
    ///
    /// A limit above the host process's hard limit fails the run with `EPERM`, whatever
    /// capabilities the host process has, because the limit is set inside the container's user
    /// namespace.
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.rlimits.retain(|limit| limit.resource != resource);
        self.rlimits.push(Rlimit { resource, soft, hard });
        self
    }

    /// Sets a hook that is called with the program's process before its first instruction, to
    /// attach the process to something: a cgroup, a tracer, a scheduling class.
    ///
    /// The hook gets the process's id on this host and a pidfd. Both stay valid until the hook
    /// returns. An `Err` refuses the program: it is never executed, and the call returns
    /// [`ErrorKind::Exec`](crate::ErrorKind::Exec) at the step `"pid_hook"`, with the hook's error.
    ///
    /// The future that starts the program polls the hook, and dropping that future drops the hook.
    /// The container serves other calls meanwhile. The time that the hook takes counts for the run.
    ///
    /// ```
    /// use cellblock::Command;
    ///
    /// let mut command = Command::new("/bin/true");
    /// command.pid_hook(|pid, _pidfd| async move {
    ///     std::fs::write("/sys/fs/cgroup/judge/cgroup.procs", pid.to_string())
    /// });
    /// ```
    pub fn pid_hook<H, F>(&mut self, hook: H) -> &mut Self
    where
        H: Fn(u32, OwnedFd) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.hook = Some(PidHook::new(hook));
        self
    }

    /// Sets how many bytes of each output [`Container::output`](crate::Container::output) keeps.
    /// Default: 1 MiB.
    pub fn capture_bytes(&mut self, bytes: usize) -> &mut Self {
        self.capture.bytes = bytes;
        self
    }

    /// Sets what happens when a program writes more than is kept. Default: [`Overflow::Discard`].
    pub fn overflow(&mut self, overflow: Overflow) -> &mut Self {
        self.capture.overflow = overflow;
        self
    }

    /// The program's path or name.
    pub fn get_program(&self) -> &OsStr {
        self.program.as_os_str()
    }

    /// The arguments, without the program's name.
    pub fn get_args(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// The environment variables that the command sets or, without a value, removes.
    pub fn get_envs(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.env.iter()
    }

    /// The directory that the command sets.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.work_dir.as_deref()
    }

    /// The limits of the run.
    pub fn get_limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn executable(&self) -> Option<&Arc<OwnedFd>> {
        self.executable.as_ref()
    }

    /// The request for this command with its limits as planned, whose attached descriptors have
    /// these roles. With `announce`, the init names the process once it exists.
    pub(crate) fn to_start_run(&self, fds: Vec<FdRole>, announce: bool, plan: &Plan) -> Result<StartRun> {
        let mut args = Strings::default();
        for arg in std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str)) {
            args.push(&[without_nul(arg)?]);
        }
        let (env, default_env) = self.env.to_wire()?;
        if let Some(dir) = &self.work_dir {
            without_nul(dir.as_os_str())?;
        }
        if let Some((number, _)) = self.fds.iter().find(|(number, _)| *number < 3) {
            return Err(Error::invalid(format!("descriptor {number} is below 3: set stdin, stdout or stderr")));
        }
        let is_set = |limit: &&Rlimit| self.rlimits.iter().any(|it| it.resource == limit.resource);
        let planned = plan.rlimits.iter().filter(|limit| !is_set(limit));
        Ok(StartRun {
            program: self.program.clone(),
            args,
            env,
            default_env,
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
