//! Kinds of errors: what callers act on.

use serde::Serialize;

/// The kind of an [`Error`](crate::Error): when it comes, and what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument makes no sense, such as a NUL byte in a string. Nothing was sent to the
    /// container. Correct the call.
    InvalidInput,
    /// The container could not be built. The [hint](crate::Error::hint) often names the setting of
    /// the machine that must change; [`doctor::diagnose`](crate::doctor::diagnose()) examines all
    /// of them.
    Build,
    /// An image could not be used: it is missing, damaged or hostile, exceeds a cap, or is for
    /// another machine; or the image store could not be read or written. Correct the image, the cap
    /// or the store.
    Image,
    /// The program could not be started: it is missing or not executable, or something that the
    /// command gives it is wrong. The container continues. Correct the command.
    Exec,
    /// The run that the call is about has ended, or there is none: a program cannot start
    /// [beside](crate::Beside) it, or get a signal. Nothing ran. The container continues.
    NotRunning,
    /// A file of the container could not be opened, read, written or deleted, or the container
    /// could not be reset. After a failed reset the container is destroyed; otherwise it continues.
    File,
    /// No answer came within the time that the caller set. The container continues. Call again, or
    /// set a longer time.
    Timeout,
    /// This machine cannot hold a limit that the caller asked for. Nothing ran. Give this process
    /// control groups, or accept weaker forms with
    /// [`Limits::allow_weaker`](crate::Limits::allow_weaker).
    Unsupported,
    /// The host lacks a resource: file descriptors, memory, processes or ids. Try again later.
    Host,
    /// [`Container::destroy`](crate::Container::destroy) was called before the command was
    /// complete, or a pool's shutdown reached its deadline.
    Destroyed,
    /// The lease that the handle comes from is over. The container is back in its pool. Lease a
    /// container again.
    Returned,
    /// The pool's queue is full, or as many programs as are allowed run [beside](crate::Beside)
    /// one. Nothing was started. Try again later, or pass the overload on to the client.
    Busy,
    /// The pool is shut down. It leases no container any more.
    Closed,
    /// The container died, or was destroyed because its init fell silent or broke the protocol.
    /// Build another container; a [`Pool`](crate::Pool) replaces its containers itself.
    Lost,
}
