//! What can go wrong, in parts that a program can look at.
//!
//! Invariant: infrastructure's failure is an [`Error`]; a program's failure is a [`Report`](crate::Report). [`Step`] is
//! the only list of the things that can fail, on both sides of the socket.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command could not be carried out.
///
/// Cheap to clone: a container's death is recorded once and told to everybody who asks.
#[derive(Clone, Debug)]
pub struct Error(Arc<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: ErrorKind,
    step: Option<Step>,
    /// The kernel's error.
    source: Option<Arc<io::Error>>,
    path: Option<PathBuf>,
    detail: Option<String>,
    hint: Option<String>,
}

/// What sort of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument makes no sense; nothing was sent.
    InvalidInput,
    /// The container could not be built.
    Build,
    /// The program could not be started: it is missing, not executable, or something it was to be given is wrong.
    Exec,
    /// A file of the container could not be opened, read, written, deleted or reset.
    File,
    /// No answer in the time that the caller gave. The container goes on.
    Timeout,
    /// This machine cannot hold a limit that was asked for.
    Unsupported,
    /// The host lacks a resource: file descriptors, memory, processes.
    Host,
    /// The container was destroyed on request, before or while the command was carried out.
    Destroyed,
    /// The lease that the handle is from is over: its container is back in its pool, or lent to somebody else.
    Returned,
    /// As many wait for a container of the pool as may. Nothing was begun.
    Busy,
    /// The pool is shut down.
    Closed,
    /// The container died, or was destroyed because its init fell silent or spoke nonsense.
    Lost,
}

macro_rules! steps {
    ($($variant:ident $name:literal: $phrase:literal,)*) => {
        /// A step that can fail, on either side of the socket. It displays as a verb phrase.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) enum Step {
            $(#[doc = $phrase] $variant,)*
        }

        impl Step {
            /// The step's public name: [`Error::step`].
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $phrase,)*
                })
            }
        }
    };
}

steps! {
    // The host, building a container.
    CheckArguments "check_arguments": "check arguments",
    ReadInitExecutable "read_init_executable": "read the init's executable",
    MakeSocket "make_socket": "make the init's socket",
    ReserveIds "reserve_ids": "reserve user and group ids",
    StartInit "start_init": "start the init",
    MapIds "map_ids": "map user and group ids",
    Hello "hello": "wait for the init's hello",
    OpenBindSource "open_bind_source": "open bind source",
    MapOwners "map_owners": "map the owners of",
    // The init, becoming pid 1.
    Unshare "unshare": "unshare namespaces",
    TakeIds "take_ids": "take uid and gid 0 inside",
    ForkPid1 "fork_pid1": "fork pid 1",
    ResetInherited "reset_inherited": "reset inherited state",
    // The init, making the root file system.
    MakeMountsPrivate "make_mounts_private": "make mounts private",
    MountRoot "mount_root": "mount the root tmpfs on",
    Mount "mount": "mount",
    PivotRoot "pivot_root": "pivot_root",
    DetachOldRoot "detach_old_root": "detach the old root",
    RemoveOldRoot "remove_old_root": "remove the old root",
    MakeSymlink "make_symlink": "make symbolic link",
    Mask "mask": "mask",
    MakeRootReadOnly "make_root_read_only": "make the root read-only",
    ForbidNamespaces "forbid_namespaces": "forbid nested user namespaces",
    InstallFilter "install_filter": "install the system-call filter",
    RaiseLoopback "raise_loopback": "bring the loopback up",
    SetDomainName "set_domain_name": "set the domain name",
    SetHostName "set_host_name": "set the host name",
    ChangeDirectory "change_directory": "change directory to",
    ReadEnvironment "read_environment": "read the environment of",
    SetUp "set_up": "run the set-up command",
    // Files.
    MakeDirectory "make_directory": "make directory",
    Open "open": "open",
    CheckRegularFile "check_regular_file": "expect a regular file at",
    SetOwner "set_owner": "set the owner of",
    Read "read": "read",
    Write "write": "write",
    Delete "delete": "delete",
    Unmount "unmount": "unmount",
    NewIpcNamespace "new_ipc_namespace": "make a new IPC namespace",
    NewNetNamespace "new_net_namespace": "make a new network namespace",
    TakeFingerprint "take_fingerprint": "take a fingerprint",
    CompareFingerprint "compare_fingerprint": "compare with the first fingerprint",
    // A run.
    MakeStream "make_stream": "make a stream",
    HoldLimit "hold_limit": "hold the limit",
    MakeGroup "make_group": "make the control group",
    LimitGroup "limit_group": "set the control group's",
    RemoveGroup "remove_group": "remove the control group",
    Clone "clone": "clone",
    PidHook "pid_hook": "pass the pid hook",
    EnterGroup "enter_group": "enter the control group",
    ReadGroup "read_group": "read the control group's figures",
    LiftRate "lift_rate": "take away the CPU rate",
    ReadProcesses "read_processes": "read the processes' figures",
    SetAffinity "set_affinity": "set the CPU affinity",
    StartSession "start_session": "start a session",
    PlaceFd "place_fd": "place a file descriptor",
    TakeTerminal "take_terminal": "take the controlling terminal",
    SetLimit "set_limit": "set a resource limit",
    SetIds "set_ids": "set user and group ids",
    DropCapabilities "drop_capabilities": "drop capabilities",
    RestrictFiles "restrict_files": "restrict files to what they were given for",
    ClearSignalMask "clear_signal_mask": "clear the signal mask",
    Exec "exec": "execute",
    Wait "wait": "wait",
    // The conversation.
    Send "send": "send to the init",
    Receive "receive": "receive from the init",
    Ping "ping": "ping",
    Serve "serve": "serve",
    // A pool.
    Lease "lease": "lease a container",
}

/// A failed step as it crosses the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: i32,
    #[serde(with = "bytes_path::option")]
    pub(crate) path: Option<PathBuf>,
}

impl Failure {
    pub(crate) fn new(step: Step, error: impl Into<io::Error>) -> Self {
        Self { step, errno: error.into().raw_os_error().unwrap_or(libc::EIO), path: None }
    }

    pub(crate) fn at(step: Step, path: impl AsRef<Path>, error: impl Into<io::Error>) -> Self {
        Self { path: Some(path.as_ref().to_owned()), ..Self::new(step, error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        if let Some(path) = &self.path {
            write!(f, " {}", Shown(path))?;
        }
        write!(f, ": {}", io::Error::from_raw_os_error(self.errno))
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, step: Step) -> Self {
        Self(Arc::new(Parts { kind, step: Some(step), source: None, path: None, detail: None, hint: None }))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, Step::CheckArguments).detail(detail)
    }

    pub(crate) fn lost(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Lost, Step::Serve).detail(detail)
    }

    /// A failure of the host's own system call.
    pub(crate) fn io(kind: ErrorKind, step: Step, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        match error.raw_os_error() {
            Some(errno) => Self::new(kind, step).errno(errno),
            None => Self::new(kind, step).detail(error.to_string()),
        }
    }

    pub(crate) fn failure(kind: ErrorKind, failure: Failure) -> Self {
        let error = Self::new(kind, failure.step).errno(failure.errno);
        match failure.path {
            Some(path) => error.at(path),
            None => error,
        }
    }

    pub(crate) fn errno(self, errno: i32) -> Self {
        self.with(|parts| parts.source = Some(io::Error::from_raw_os_error(errno).into()))
    }

    pub(crate) fn at(self, path: impl Into<PathBuf>) -> Self {
        self.with(|parts| parts.path = Some(path.into()))
    }

    /// Part of a detail may be what an init said, which is not trusted: it is shown in a bounded length, and without
    /// control characters.
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        const KEPT: usize = 3000;
        let detail: String = detail.into();
        let mut shown: String = detail.chars().take(KEPT).map(printable).collect();
        if detail.chars().nth(KEPT).is_some() {
            shown.push('…');
        }
        self.with(|parts| parts.detail = Some(shown))
    }

    pub(crate) fn hinted(self, hint: Option<String>) -> Self {
        self.with(|parts| parts.hint = hint)
    }

    fn with(self, change: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        change(&mut parts);
        Self(Arc::new(parts))
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name of the step that failed, in snake_case and stable: `"open"`, `"unshare"`, `"exec"`.
    ///
    /// It is for logs and for telling failures apart in tests. Programs act on [`kind`](Self::kind).
    pub fn step(&self) -> Option<&'static str> {
        self.0.step.map(Step::name)
    }

    /// The step that failed, for code that explains it.
    pub(crate) fn failed_step(&self) -> Option<Step> {
        self.0.step
    }

    /// The kernel's error number, where the kernel refused something.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.source.as_ref()?.raw_os_error()
    }

    /// The path that the step was about: inside the container, except for a bind source or the init's executable.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether the same command may succeed if tried again later, in a new container where this one is lost.
    ///
    /// True for what the machine's state can cause (out of fds, memory or processes, a silent or lost init, a deadline),
    /// false for what the arguments or the machine's settings cause.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Timeout | ErrorKind::Host | ErrorKind::Lost | ErrorKind::Busy => true,
            ErrorKind::Build | ErrorKind::Exec | ErrorKind::File => {
                let passing = [libc::EAGAIN, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR, libc::ETXTBSY];
                self.raw_os_error().is_some_and(|errno| passing.contains(&errno))
            }
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::Destroyed => false,
            ErrorKind::Returned | ErrorKind::Closed => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.kind {
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::Build => "the container could not be built",
            ErrorKind::Exec => "the program could not be started",
            ErrorKind::File => "the file command failed",
            ErrorKind::Timeout => "no answer in time",
            ErrorKind::Unsupported => "this machine cannot hold a limit",
            ErrorKind::Host => "the host lacks a resource",
            ErrorKind::Destroyed => "the container was destroyed",
            ErrorKind::Returned => "the lease is over",
            ErrorKind::Busy => "the pool is busy",
            ErrorKind::Closed => "the pool is shut down",
            ErrorKind::Lost => "the container is lost",
        })?;
        if let Some(step) = self.0.step {
            write!(f, ": {step}")?;
        }
        if let Some(path) = &self.0.path {
            write!(f, " {}", Shown(path))?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    /// The kernel's error, as an [`io::Error`], where the kernel refused something.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Turns the failure of a system call into a [`Failure`] or an [`Error`] that names the step.
pub(crate) trait ResultExt<T> {
    /// A failure of this step.
    fn step(self, step: Step) -> Result<T, Failure>;
    /// A failure of this step, which was about `path`.
    fn step_at(self, step: Step, path: impl AsRef<Path>) -> Result<T, Failure>;
    /// An error of this kind, in this step.
    fn fail(self, kind: ErrorKind, step: Step) -> Result<T>;
    /// An error of this kind, in this step, which was about `path`.
    fn fail_at(self, kind: ErrorKind, step: Step, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> ResultExt<T> for Result<T, E> {
    fn step(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }

    fn step_at(self, step: Step, path: impl AsRef<Path>) -> Result<T, Failure> {
        self.map_err(|error| Failure::at(step, path, error))
    }

    fn fail(self, kind: ErrorKind, step: Step) -> Result<T> {
        self.map_err(|error| Error::io(kind, step, error))
    }

    fn fail_at(self, kind: ErrorKind, step: Step, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::io(kind, step, error).at(path.as_ref()))
    }
}

/// A path as one line without control characters: a program may have chosen it.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.to_string_lossy();
        shown.chars().map(|c| if c == '\n' { '\u{fffd}' } else { printable(c) }).try_for_each(|c| f.write_char(c))
    }
}

/// The character, or what is shown in the place of a control character.
pub(crate) fn printable(c: char) -> char {
    if c.is_control() && c != '\n' { '\u{fffd}' } else { c }
}

/// Paths as bytes, since serde refuses those that are not UTF-8.
pub(crate) mod bytes_path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_bytes::{ByteBuf, Bytes};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        Bytes::new(path.as_os_str().as_bytes()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(ByteBuf::deserialize(from)?.into_vec()).into())
    }

    pub(crate) mod option {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
            path.as_ref().map(|path| Bytes::new(path.as_os_str().as_bytes())).serialize(to)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
            let bytes = Option::<ByteBuf>::deserialize(from)?;
            Ok(bytes.map(|bytes| OsString::from_vec(bytes.into_vec()).into()))
        }
    }

    pub(crate) mod list {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(paths.iter().map(|path| Bytes::new(path.as_os_str().as_bytes())))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
            let paths = Vec::<ByteBuf>::deserialize(from)?;
            Ok(paths.into_iter().map(|path| OsString::from_vec(path.into_vec()).into()).collect())
        }
    }
}
