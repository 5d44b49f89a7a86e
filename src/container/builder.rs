//! The builder of containers.
//!
//! Invariant: a [`ContainerBuilder`] is only a description. [`ContainerBuilder::build`] may be
//! called many times, and makes a new container each time.

use std::borrow::Borrow;
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
use crate::root::{ResolvedRoot, Root};
use crate::seccomp::Filter;

use super::handle::Container;
use super::launch::{LaunchError, launch};
use super::set_up::run_setup_commands;
use super::spec::{ContainerSpec, Mounts, symlink};

/// Room for a burst of messages. If the mailbox is full, callers wait.
const MAILBOX_CAPACITY: usize = 64;

/// The description of a container: from [`Container::builder`].
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
    setup_commands: Vec<Command>,
    reply_timeout: Duration,
}

impl Default for ContainerBuilder {
    fn default() -> Self {
        Self { spec: ContainerSpec::default(), setup_commands: Vec::new(), reply_timeout: Duration::from_secs(10) }
    }
}

impl Container {
    /// A builder with the default settings.
    ///
    /// ```no_run
    /// # async fn example() -> cellblock::Result<()> {
    /// use cellblock::{Command, Container};
    ///
    /// let container = Container::builder().build().await?;
    /// let output = container.output(Command::new("echo").arg("hello")).await?;
    /// assert_eq!(output.stdout, b"hello\n");
    /// container.destroy().await;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> ContainerBuilder {
        ContainerBuilder::default()
    }
}

impl ContainerBuilder {
    /// Sets the executable that becomes the init: any that links this library, in the same version.
    /// Default: the host's own executable.
    ///
    /// The executable is read once for the whole process, at the first build that names it. After
    /// that the init needs nothing of its directory or environment. Cargo does not build the
    /// binaries of a dependency: to use the small `cellblock-init`, a service installs it (`cargo
    /// install cellblock`) or has a binary of its own whose `main` is
    /// [`init()`](crate::init()).
    ///
    /// A service that loads this library at run time, such as an extension of Python, must set it:
    /// its own executable does not link the library.
    ///
    /// ```
    /// # use cellblock::Container;
    /// let builder = Container::builder().init_exe("/usr/local/bin/cellblock-init");
    /// ```
    pub fn init_exe(mut self, path: impl Into<PathBuf>) -> Self {
        self.spec.init_exe = path.into();
        self
    }

    /// Sets the tree that programs see as "/", in place of the host's `/usr` and the other
    /// [default mounts](Mount::defaults). Default: none.
    ///
    /// The default mounts are [`Mount::defaults_over_root`] then. The root's variables are those of
    /// runs that do not set them, also `PATH`, in which a run's program is looked up. A root that
    /// sets no `PATH` has `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`. Its
    /// working directory takes the place of `/w`, unless [`work_dir`](Self::work_dir) sets one. Its
    /// command is [`Container::root_command`]. Programs never have the user id 0: they get the
    /// root's user and group id if those are not 0 and this process may map them (see
    /// [`id_range`](Self::id_range)).
    ///
    /// ```
    /// use cellblock::{Container, Root};
    ///
    /// let builder = Container::builder().root(Root::directory("/srv/roots/debian"));
    /// ```
    pub fn root(mut self, root: Root) -> Self {
        self.spec.root = Some(root);
        self
    }

    /// Adds a mount after the others, or replaces the mount with the same target. Default:
    /// [`Mount::defaults`], or [`Mount::defaults_over_root`] over a [`root`](Self::root).
    ///
    /// ```
    /// use cellblock::{Container, Mount};
    ///
    /// let builder = Container::builder().mount(Mount::bind("/srv/problems", "/problems"));
    /// ```
    pub fn mount(mut self, mount: Mount) -> Self {
        self.spec.mounts.added.push(mount);
        self
    }

    /// Replaces all mounts. They are made in this order.
    ///
    /// ```
    /// use cellblock::{Container, Mount, mount::Tmpfs};
    ///
    /// let builder = Container::builder().mounts(Mount::defaults(Tmpfs::default()));
    /// ```
    pub fn mounts(mut self, mounts: impl IntoIterator<Item = Mount>) -> Self {
        self.spec.mounts = Mounts { replaced: Some(mounts.into_iter().collect()), added: Vec::new() };
        self
    }

    /// Adds a symbolic link at `path` that says `target`. The build makes it, with the directories
    /// that it needs. Default: `/dev/fd`, `/dev/stdin`, `/dev/stdout` and `/dev/stderr`.
    ///
    /// ```
    /// # use cellblock::Container;
    /// let builder = Container::builder().symlink("/usr/bin/python3", "/bin/python");
    /// ```
    pub fn symlink(mut self, target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        self.spec.symlinks.push(symlink(target, path));
        self
    }

    /// Replaces all symbolic links that the build makes. Each is a target and a path.
    pub fn symlinks<T: Into<PathBuf>, P: Into<PathBuf>>(mut self, links: impl IntoIterator<Item = (T, P)>) -> Self {
        self.spec.symlinks = links.into_iter().map(|(target, path)| symlink(target, path)).collect();
        self
    }

    /// Replaces the paths that are hidden inside: a file by `/dev/null`, a directory by an empty,
    /// read-only tmpfs. A path that does not exist, or that leads over a symbolic link, is skipped.
    ///
    /// Default: what container engines hide of `/proc` and `/sys` (the list of the OCI runtimes),
    /// for containers that mount a whole one.
    pub fn masked_paths<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.spec.masked = paths.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the range of host ids, for users and for groups alike. Each container takes two ids of
    /// it. Two containers that live at once in this network namespace never share an id. Default: 1
    /// 900 000 000 to 1 900 131 071.
    ///
    /// Each host begins at a random place of the range. To rule out that hosts in different network
    /// namespaces use the same ids, give each a range of its own.
    ///
    /// A range needs CAP_SETUID and CAP_SETGID. Without them and without a range, the init has the
    /// user and group id of the host's process. The program then has a subordinate id, if the user
    /// has some (`/etc/subuid`, `/etc/subgid`) and newuidmap and newgidmap are installed; they make
    /// a build some milliseconds longer. Otherwise the program shares the init's ids.
    /// [`Protections::own_ids`](crate::report::Protections::own_ids) tells which. A file or pipe of
    /// the host cannot be given to a subordinate id, so such a program cannot open its own
    /// `/dev/stdout` by name.
    ///
    /// ```
    /// # use cellblock::Container;
    /// let builder = Container::builder().id_range(2_000_000_000..2_000_010_000);
    /// ```
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

    /// Sets the directory in which programs start and relative paths begin. If it does not exist,
    /// the build makes it for the program's user. Default: that of the [`root`](Self::root), or
    /// `/w`.
    pub fn work_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spec.work_dir = Some(dir.into());
        self
    }

    /// Adds a command that each build runs once, as any other run, after those of earlier calls. If
    /// it does not exit with 0, the build fails, and the error has what the command printed. Its
    /// time does not count for [`start_timeout`](Self::start_timeout). Default: none.
    ///
    /// Each reset restores the files that the commands left, so every lease of a pool finds them.
    /// The guide says [what lasts](crate::guide::resets#set-up-that-lasts).
    ///
    /// ```
    /// use cellblock::{Command, Container};
    ///
    /// let builder = Container::builder().setup_command(Command::new("mkdir").arg("/tmp/cache"));
    /// ```
    pub fn setup_command(mut self, command: impl Borrow<Command>) -> Self {
        self.setup_commands.push(command.borrow().clone());
        self
    }

    /// Sets which system calls programs may make. Default: [`Filter::Denylist`].
    ///
    /// The init installs the filter once, for itself and every run. It costs time when a container
    /// is built, and none when a program runs.
    ///
    /// ```
    /// use cellblock::{Container, seccomp::Filter};
    ///
    /// let builder = Container::builder().filter(Filter::Off);
    /// ```
    pub fn filter(mut self, filter: Filter) -> Self {
        self.spec.filter = filter;
        self
    }

    /// Sets whether the programs of a run can talk to each other over a loopback interface of the
    /// container's own, as 127.0.0.1 and ::1. Default: false. The interface exists then, and is
    /// down.
    ///
    /// The container's network has no other interface. Each reset makes a new network, since a
    /// closed connection stays for a minute; that takes half a millisecond more. On cgroup v1 the
    /// memory of TCP and UDP sockets is not counted for the run.
    pub fn loopback(mut self, up: bool) -> Self {
        self.spec.loopback = up;
        self
    }

    /// Sets how long a build may take. Default: 10 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.spec.start_timeout = timeout;
        self
    }

    /// Sets how long the init may owe a reply and send nothing before the container is destroyed.
    /// Default: 10 s.
    ///
    /// A run owes its report only once it is killed, or once its wall time has been over for this
    /// long. From then on the host pings the init, and waits for the report while the init answers:
    /// the kernel needs time to free much memory. It waits at most 10 s longer for each GiB of the
    /// run's memory limit.
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// Builds a container.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a relative path, for an overlay that cannot be mounted, and
    /// in a process that was itself started to be an init. [`ErrorKind::Build`] with the step, path
    /// and errno of the failure. [`ErrorKind::Host`] if the host is out of descriptors, memory or
    /// ids. [`ErrorKind::Image`] if the image of the root cannot be used.
    ///
    /// # Cancel safety
    /// Dropping the future destroys the unfinished container in the background. It also ends the
    /// unpacking of an image.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime whose IO or time driver is off.
    ///
    /// ```no_run
    /// # async fn example() -> cellblock::Result<()> {
    /// use cellblock::{Container, ErrorKind};
    ///
    /// match Container::builder().build().await {
    ///     Ok(container) => container.destroy().await,
    ///     Err(error) if error.kind() == ErrorKind::Build => eprintln!("{error}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn build(&self) -> Result<Container> {
        init::keep();
        if init::is_asked_for() {
            return Err(Error::invalid(
                "this process was started to be a container's init, but this library's code did not run before main: \
                 call cellblock::init() first in main, or set ContainerBuilder::init_exe",
            ));
        }
        self.spec.check()?;
        observe::describe();
        // An image may have to be unpacked. That ends if the caller drops this future.
        let root = match &self.spec.root {
            Some(root) => Some(root.resolve().await?),
            None => None,
        };
        let (ready, built) = oneshot::channel();
        tokio::spawn(observe::in_container_span(launch_and_serve(self.spec.clone(), root, self.reply_timeout, ready)));
        let container = built
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Build, Step::Serve).detail("the runtime ended")))?;
        run_setup_commands(container, &self.setup_commands).await
    }
}

/// The task of a container, from its launch to its end. If the caller has gone, no handle is left
/// after the launch, and the container ends at once.
async fn launch_and_serve(
    spec: ContainerSpec,
    root: Option<ResolvedRoot>,
    reply_timeout: Duration,
    ready: oneshot::Sender<Result<Container>>,
) {
    match launch(&spec, root).await {
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
