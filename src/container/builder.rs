//! What a container is made of.
//!
//! Invariant: a [`ContainerBuilder`] is only a description; [`ContainerBuilder::build`] may be called many times, and makes a container
//! each time.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::command::Command;
use crate::doctor::hints;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::init;
use crate::mount::Mount;
use crate::observe;
use crate::seccomp::Filter;

use super::handle::Container;
use super::launch::{LaunchError, launch};
use super::spec::{ContainerSpec, symlink};

/// Room for a burst of messages. If the mailbox is full, callers wait.
const MAILBOX_CAPACITY: usize = 64;

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
#[must_use]
pub struct ContainerBuilder {
    spec: ContainerSpec,
    setup_command: Option<Command>,
    reply_timeout: Duration,
}

impl Default for ContainerBuilder {
    fn default() -> Self {
        Self { spec: ContainerSpec::default(), setup_command: None, reply_timeout: Duration::from_secs(10) }
    }
}

impl Container {
    /// The description of a container, to [build](ContainerBuilder::build).
    pub fn builder() -> ContainerBuilder {
        ContainerBuilder::default()
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
        self.spec.init_exe = path.into();
        self
    }

    /// Adds a mount, after those that are there already, or in the place of one with the same target. Default:
    /// [`Mount::defaults`].
    pub fn mount(mut self, mount: Mount) -> Self {
        match self.spec.mounts.iter_mut().find(|it| it.target() == mount.target()) {
            Some(it) => *it = mount,
            None => self.spec.mounts.push(mount),
        }
        self
    }

    /// Sets all the mounts, in the order in which they are made.
    pub fn mounts(mut self, mounts: impl IntoIterator<Item = Mount>) -> Self {
        self.spec.mounts = mounts.into_iter().collect();
        self
    }

    /// Adds a symbolic link at `path`, made when the container is built, with the directories it needs. By default there
    /// are `/dev/fd`, `/dev/stdin`, `/dev/stdout` and `/dev/stderr`.
    pub fn symlink(mut self, target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        self.spec.symlinks.push(symlink(target, path));
        self
    }

    /// Sets all the symbolic links that are made when the container is built, as targets and paths.
    pub fn symlinks<T: Into<PathBuf>, P: Into<PathBuf>>(mut self, links: impl IntoIterator<Item = (T, P)>) -> Self {
        self.spec.symlinks = links.into_iter().map(|(target, path)| symlink(target, path)).collect();
        self
    }

    /// Sets what is hidden inside: a file under `/dev/null`, a directory under an empty, read-only tmpfs. What is not there
    /// is left out, and so is what only a link leads to. By default what container engines hide of `/proc` and `/sys`
    /// (the list of the OCI runtimes), for those who mount a whole one.
    pub fn masked_paths<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.spec.masked = paths.into_iter().map(Into::into).collect();
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
        self.spec.id_range = Some(range);
        self
    }

    /// Sets the host name that programs see. Default: `cellblock`.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.spec.hostname = name.into();
        self
    }

    /// Sets the domain name that programs see. Default: `cellblock`.
    pub fn domainname(mut self, name: impl Into<String>) -> Self {
        self.spec.domainname = name.into();
        self
    }

    /// Sets where programs start and relative paths begin; it is made for the program where it is missing. Default: `/w`.
    pub fn work_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spec.work_dir = dir.into();
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
        self.spec.filter = filter;
        self
    }

    /// Sets whether the programs of a run can talk to each other through a loopback of the container's own, as 127.0.0.1 and ::1.
    /// Default: false; it is there, and down.
    ///
    /// There is nobody else in that network. Each reset takes a new one, since connections stay for a minute after their end;
    /// that makes it half a millisecond longer. On cgroup v1 the memory behind TCP and UDP sockets is not counted for the run.
    pub fn loopback(mut self, up: bool) -> Self {
        self.spec.loopback = up;
        self
    }

    /// Sets how long a build may take. Default: 10 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.spec.start_timeout = timeout;
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
        if init::is_asked_for() {
            return Err(Error::invalid(
                "this process was started to be a container's init, but its main has not called cellblock::init(): \
                 call it before anything else",
            ));
        }
        self.spec.check()?;
        let (ready, built) = oneshot::channel();
        tokio::spawn(observe::in_container_span(launch_and_serve(self.spec.clone(), self.reply_timeout, ready)));
        let container = built
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Build, Step::Serve).detail("the runtime ended")))?;
        match &self.setup_command {
            Some(command) => run_setup_command(container, command).await,
            None => Ok(container),
        }
    }
}

/// The task of a container, from its launch to its end. If the caller has gone, no handle is left after
/// the launch, and the container ends at once.
async fn launch_and_serve(spec: ContainerSpec, reply_timeout: Duration, ready: oneshot::Sender<Result<Container>>) {
    match launch(&spec).await {
        Ok(connection) => {
            let (container, actor) = Container::serve(connection, reply_timeout, MAILBOX_CAPACITY);
            drop(ready.send(Ok(container)));
            actor.await;
        }
        Err(error) => drop(ready.send(Err(with_hint(error)))),
    }
}

/// Adds what is known about the machine that may have caused the error.
fn with_hint(error: LaunchError) -> Error {
    match error {
        LaunchError::Host(error) => error,
        LaunchError::Refused(error) => {
            let hint = error.failed_step().and_then(|step| hints::hint(step, error.raw_os_error()));
            error.hinted(hint)
        }
        LaunchError::NoReply { error, said_hello } => error.hinted(hints::hint_of_silence(said_hello)),
    }
}

async fn run_setup_command(container: Container, command: &Command) -> Result<Container> {
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
