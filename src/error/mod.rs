//! Errors: their kind, the step that failed, and what to do about it.
//!
//! An [`Error`] means that the machine or the call was at fault. The failure of a program is not an
//! error; it is a [`Report`](crate::Report).
//!
//! Programs act on the [`ErrorKind`] and on [`Error::is_retryable`]. The step, path, kernel error
//! and hint are for logs and people.
//!
//! ```
//! use cellblock::{Error, ErrorKind};
//!
//! /// The HTTP status for a job that could not be run.
//! fn status_of(error: &Error) -> u16 {
//!     match error.kind() {
//!         ErrorKind::InvalidInput | ErrorKind::Exec => 400,
//!         ErrorKind::Busy | ErrorKind::Closed => 503,
//!         _ if error.is_retryable() => 503,
//!         _ => 500,
//!     }
//! }
//! ```

// Invariant: `step.rs` has the only list of the steps that can fail, on both sides of the socket.

pub(crate) mod bytes_path;
mod failure;
mod io_kind;
mod kind;
mod printable;
mod step;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use failure::Failure;
pub use kind::ErrorKind;
pub(crate) use printable::printable;
pub(crate) use step::Step;

use io_kind::io_kind;
use printable::PrintablePath;

/// A result whose error is, by default, an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// An error has a [kind](Self::kind) for programs to act on. For logs and people it has the
/// [step](Self::step) that failed, the [path](Self::path) that the step was about, the kernel's
/// error as its [source](std::error::Error::source), and a [hint](Self::hint). It displays as all
/// of them, and its `Debug` is the same text: `fn main() -> Result` prints that.
///
/// `?` turns it into an [`io::Error`] of the kind that fits best, with this error inside.
///
/// An error is cheap to clone. A container's death is recorded once, and every later call returns a
/// clone of that error.
///
/// ```no_run
/// # async fn example() {
/// use std::error::Error as _;
///
/// use cellblock::{Container, ErrorKind, Mount};
///
/// let builder = Container::builder().mount(Mount::bind("/no/such/dir", "/data"));
/// let error = builder.build().await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Build);
/// assert_eq!(error.step(), Some("open_bind_source"));
/// assert_eq!(error.path().unwrap().to_str(), Some("/no/such/dir"));
/// assert!(!error.is_retryable());
///
/// // The kernel's error.
/// let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
/// assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
/// # }
/// ```
#[derive(Clone)]
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

impl Error {
    /// The kind of failure, for programs to act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later, in a new container if this one is lost.
    ///
    /// True for failures that the machine's momentary state can cause: no descriptors, memory or
    /// processes left, a silent or lost init, a deadline, a full queue. False for failures that the
    /// arguments or the machine's settings cause.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::Timeout | ErrorKind::Host | ErrorKind::Lost | ErrorKind::Busy => true,
            ErrorKind::Build | ErrorKind::Image | ErrorKind::Exec | ErrorKind::File => {
                let transient = [libc::EAGAIN, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR, libc::ETXTBSY];
                self.raw_os_error().is_some_and(|errno| transient.contains(&errno))
            }
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::Destroyed => false,
            ErrorKind::Returned | ErrorKind::Closed | ErrorKind::NotRunning => false,
        }
    }

    /// The stable name of the step that failed, in snake_case: `"open"`, `"unshare"`, `"exec"`.
    ///
    /// It is for logs, and for telling failures apart in tests. Programs act on
    /// [`kind`](Self::kind).
    pub fn step(&self) -> Option<&'static str> {
        self.0.step.map(Step::name)
    }

    /// The path that the step was about. It is a path inside the container, except for a bind
    /// source, the init's executable, and the files of an image and of its store.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The kernel's error number, if the kernel refused a system call.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.source.as_ref()?.raw_os_error()
    }

    /// What to do about the failure, if that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The step that failed, for code that explains it.
    pub(crate) fn failed_step(&self) -> Option<Step> {
        self.0.step
    }

    pub(crate) fn new(kind: ErrorKind, step: Step) -> Self {
        Self(Arc::new(Parts { kind, step: Some(step), source: None, path: None, detail: None, hint: None }))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, Step::CheckArguments).detail(detail)
    }

    pub(crate) fn lost(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Lost, Step::Serve).detail(detail)
    }

    /// The failure of a system call on the host.
    pub(crate) fn io(kind: ErrorKind, step: Step, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        match error.raw_os_error() {
            Some(errno) => Self::new(kind, step).errno(errno),
            None => Self::new(kind, step).detail(error.to_string()),
        }
    }

    /// A failure that an init reported.
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

    /// Sets the detail. Part of it may come from an init, which is not trusted: the detail is cut
    /// at a fixed length and has no control characters.
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        const MAX_CHARS: usize = 3000;
        let detail: String = detail.into();
        let mut shown: String = detail.chars().take(MAX_CHARS).map(printable).collect();
        if detail.chars().nth(MAX_CHARS).is_some() {
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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.kind {
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::Build => "the container could not be built",
            ErrorKind::Image => "the image cannot be used",
            ErrorKind::Exec => "the program could not be started",
            ErrorKind::NotRunning => "the run is not going on",
            ErrorKind::File => "the file command failed",
            ErrorKind::Timeout => "no answer in time",
            ErrorKind::Unsupported => "this machine cannot hold a limit",
            ErrorKind::Host => "the host lacks a resource",
            ErrorKind::Destroyed => "the container was destroyed",
            ErrorKind::Returned => "the lease is over",
            ErrorKind::Busy => "too much is going on",
            ErrorKind::Closed => "the pool is shut down",
            ErrorKind::Lost => "the container is lost",
        })?;
        if let Some(step) = self.0.step {
            write!(f, ": {step}")?;
        }
        if let Some(path) = &self.0.path {
            write!(f, " {}", PrintablePath(path))?;
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

/// As [`Display`](fmt::Display).
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An error of the kernel keeps its kind. The error itself is [inside](io::Error::get_ref).
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kernel = error.0.source.as_ref().map(|source| source.kind());
        Self::new(kernel.unwrap_or(io_kind(error.kind())), error)
    }
}

impl std::error::Error for Error {
    /// The kernel's error, as an [`io::Error`], if the kernel refused a system call.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Turns the failure of a system call into a [`Failure`] or an [`Error`] that names the step.
pub(crate) trait ResultExt<T> {
    /// A failure of `step`.
    fn step(self, step: Step) -> Result<T, Failure>;
    /// A failure of `step` at `path`.
    fn step_at(self, step: Step, path: impl AsRef<Path>) -> Result<T, Failure>;
    /// An error of `kind` in `step`.
    fn fail(self, kind: ErrorKind, step: Step) -> Result<T>;
    /// An error of `kind` in `step` at `path`.
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
