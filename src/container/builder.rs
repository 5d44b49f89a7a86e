//! What a container is made of.
//!
//! Invariant: a [`ContainerBuilder`] is only a description; [`ContainerBuilder::build`] may be called many times, and makes a container
//! each time.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::command::Command;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::LeaseLimits;
use crate::mount::{Mount, Tmpfs};
use crate::observe;
use crate::seccomp::Filter;
use crate::wire::Symlink;

use super::actor::Actor;
use super::{Container, Shared};

/// Describes a container; from [`Container::builder`].
///
/// ```no_run
/// # async fn example() -> cellblock::Result<()> {
/// use cellblock::{Container, Mount};
///
/// let container = Container::builder()
///     .mount(Mount::bind("/srv/problems", "/problems"))
///     .hostname("judge")
///     .build()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ContainerBuilder {
    pub(super) init_exe: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) symlinks: Vec<Symlink>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) id_range: Option<Range<u32>>,
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) work_dir: PathBuf,
    pub(super) setup_command: Option<Command>,
    pub(super) filter: Filter,
    pub(super) loopback: bool,
    pub(super) start_timeout: Duration,
    pub(super) reply_timeout: Duration,
}

impl Default for ContainerBuilder {
    fn default() -> Self {
        Self {
            init_exe: "/proc/self/exe".into(),
            mounts: Mount::defaults(Tmpfs::default()),
            symlinks: DEFAULT_SYMLINKS.map(|(target, path)| symlink(target, path)).into(),
            masked: DEFAULT_MASKED.map(PathBuf::from).into(),
            id_range: None,
            hostname: "cellblock".into(),
            domainname: "cellblock".into(),
            work_dir: "/w".into(),
            setup_command: None,
            filter: Filter::default(),
            loopback: false,
            start_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(10),
        }
    }
}

impl ContainerBuilder {
    /// Sets the executable that becomes the init: one whose `main` calls [`init()`](crate::init()) before anything else.
    /// Default: the host's own.
    ///
    /// It is read once for the whole process, at the first build that names it, and needs nothing of its directory or
    /// environment afterwards. Cargo does not build the binaries of a dependency: a service that wants the small
    /// `cellblock-init` installs it (`cargo install cellblock`) or has a binary of its own with that one line.
    pub fn init_exe(mut self, path: impl Into<PathBuf>) -> Self {
        self.init_exe = path.into();
        self
    }

    /// Adds a mount, after those that are there already, or in the place of one with the same target. Default:
    /// [`Mount::defaults`].
    pub fn mount(mut self, mount: Mount) -> Self {
        match self.mounts.iter_mut().find(|it| it.target() == mount.target()) {
            Some(it) => *it = mount,
            None => self.mounts.push(mount),
        }
        self
    }

    /// Sets all the mounts, in the order in which they are made.
    pub fn mounts(mut self, mounts: impl IntoIterator<Item = Mount>) -> Self {
        self.mounts = mounts.into_iter().collect();
        self
    }

    /// Adds a symbolic link at `path`, made when the container is built, with the directories it needs. By default there
    /// are `/dev/fd`, `/dev/stdin`, `/dev/stdout` and `/dev/stderr`.
    pub fn symlink(mut self, target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        self.symlinks.push(symlink(target, path));
        self
    }

    /// Sets all the symbolic links that are made when the container is built, as targets and paths.
    pub fn symlinks<T: Into<PathBuf>, P: Into<PathBuf>>(mut self, links: impl IntoIterator<Item = (T, P)>) -> Self {
        self.symlinks = links.into_iter().map(|(target, path)| symlink(target, path)).collect();
        self
    }

    /// Sets what is hidden inside: a file under `/dev/null`, a directory under an empty, read-only tmpfs. What is not there
    /// is left out, and so is what only a link leads to. By default what container engines hide of `/proc` and `/sys`
    /// (the list of the OCI runtimes), for those who mount a whole one.
    pub fn masked_paths<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.masked = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the host ids, of users and of groups, that containers take theirs from: two each, never shared by two that
    /// live at once in this network namespace. Default: 1 900 000 000 to 1 900 131 071. Each host begins at a random place;
    /// where hosts are in several network namespaces, a range for each makes sure that they do not meet.
    ///
    /// Needs CAP_SETUID and CAP_SETGID. Without them, and without a range, the init has the host process's own user and group
    /// id. The program then has one of the user's subordinate ids where there are some (`/etc/subuid`, `/etc/subgid`, newuidmap
    /// and newgidmap, which take a build some milliseconds), and otherwise shares the init's.
    /// [`Protections::own_ids`](crate::report::Protections::own_ids) tells which. A file or pipe of the host's cannot be given to a
    /// subordinate id: such a program cannot open its own `/dev/stdout` by name.
    pub fn id_range(mut self, range: Range<u32>) -> Self {
        self.id_range = Some(range);
        self
    }

    /// Sets the host name that programs see. Default: `cellblock`.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = name.into();
        self
    }

    /// Sets the domain name that programs see. Default: `cellblock`.
    pub fn domainname(mut self, name: impl Into<String>) -> Self {
        self.domainname = name.into();
        self
    }

    /// Sets where programs start and relative paths begin; it is made for the program where it is missing. Default: `/w`.
    pub fn work_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.work_dir = dir.into();
        self
    }

    /// Sets a command that is run once when the container is built, as any other run is. A build whose command does not
    /// exit with 0 fails, and the error has what the command printed. Its time does not count for
    /// [`start_timeout`](Self::start_timeout). Default: none.
    pub fn setup_command(mut self, command: Command) -> Self {
        self.setup_command = Some(command);
        self
    }

    /// Sets which system calls programs may make. Default: [`Filter::Denylist`].
    ///
    /// The init installs the filter once, for itself and every run: its cost is the container's and not the run's.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets whether the programs of a run can talk to each other through a loopback of the container's own, as 127.0.0.1 and ::1.
    /// Default: false; it is there, and down.
    ///
    /// There is nobody else in that network. Each reset takes a new one, since connections stay for a minute after their end;
    /// that makes it half a millisecond longer. On cgroup v1 the memory behind TCP and UDP sockets is not counted for the run.
    pub fn loopback(mut self, up: bool) -> Self {
        self.loopback = up;
        self
    }

    /// Sets how long a build may take. Default: 10 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Sets how long the init may owe an answer and say nothing before the container is given up and destroyed.
    /// Default: 10 s.
    ///
    /// A run owes its report only once it is killed, or its wall time has been over for as long as this. Then the init is asked
    /// whether it still answers, and the report waited for while it does: the kernel takes its time to free much memory. At
    /// most 10 s more for each GiB of the run's memory limit.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// Builds a container.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] in a process that was itself started to be an init: its `main` did not call
    /// [`init()`](crate::init()). [`ErrorKind::Build`] with the step, path and errno of what failed;
    /// [`ErrorKind::Host`] where the host is out of descriptors, memory or ids.
    ///
    /// # Cancel safety
    /// Dropping the future destroys what was built so far, in the background.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in one whose IO or time driver is off.
    pub async fn build(&self) -> Result<Container> {
        if crate::init_is_asked_for() {
            return Err(Error::invalid(
                "this process was started to be a container's init, but its main has not called cellblock::init(): \
                 call it before anything else",
            ));
        }
        let mut paths = self.mounts.iter().map(Mount::target).chain(self.symlinks.iter().map(|link| &*link.path));
        if !self.work_dir.is_absolute()
            || !paths.all(Path::is_absolute)
            || !self.masked.iter().all(|it| it.is_absolute())
        {
            return Err(Error::invalid("a path inside the container must be absolute"));
        }
        self.mounts.iter().enumerate().try_for_each(|(place, mount)| mount.check_overlay(&self.mounts[..place]))?;
        let shared = Arc::new(Shared::default());
        // Room for a burst; beyond it callers wait.
        let (mailbox, messages) = mpsc::channel(64);
        let (ready, built) = oneshot::channel();
        tokio::spawn(observe::in_container_span(Actor::build_and_serve(
            self.clone(),
            messages,
            Arc::clone(&shared),
            ready,
        )));
        let made = match built.await {
            Ok(result) => result?,
            Err(_) => return Err(Error::new(ErrorKind::Build, Step::Serve).detail("the runtime ended")),
        };
        let container = Container { mailbox, shared, made, terms: LeaseLimits::default() };
        match &self.setup_command {
            Some(command) => setup_command(container, command).await,
            None => Ok(container),
        }
    }
}

async fn setup_command(container: Container, command: &Command) -> Result<Container> {
    let error = match container.output(command).await {
        Ok(output) if output.report.status.success() => return Ok(container),
        Ok(output) => {
            let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
            let said = [text(&output.stdout), text(&output.stderr)].join("\n");
            Error::new(ErrorKind::Build, Step::SetUp).detail(format!("{}: {}", output.report.status, said.trim()))
        }
        Err(error) => error,
    };
    container.destroy().await;
    Err(error)
}

const DEFAULT_SYMLINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

const DEFAULT_MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

fn symlink(target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Symlink {
    Symlink { target: target.into(), path: path.into() }
}
