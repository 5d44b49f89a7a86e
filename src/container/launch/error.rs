//! Why a launch fails, as far as a hint can depend on it.

use std::io;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Failure, Step};

/// A failed launch.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// The host could not do its part.
    Host(Error),
    /// The kernel refused a step to the init, or to the host on the init's behalf.
    Refused(Error),
    /// The init ended, or did not answer in time, without naming a failure.
    NoReply { error: Error, said_hello: bool },
}

impl LaunchError {
    /// The init named this failure.
    pub(super) fn refused(failure: Failure) -> Self {
        Self::Refused(Error::failure(ErrorKind::Build, failure))
    }

    /// The init closed its socket instead of answering in this step.
    pub(super) fn closed(step: Step, stderr_tail: Option<String>) -> Self {
        Self::no_reply(
            step,
            match stderr_tail {
                Some(tail) => format!("the init ended, having said: {tail}"),
                None => "the init ended without a word".to_owned(),
            },
        )
    }

    /// The init did not answer in this step.
    pub(super) fn timed_out(step: Step, timeout: Duration) -> Self {
        Self::no_reply(step, format!("nothing within {timeout:?}"))
    }

    fn no_reply(step: Step, detail: String) -> Self {
        Self::NoReply { error: Error::new(ErrorKind::Build, step).detail(detail), said_hello: step != Step::Hello }
    }
}

impl From<Error> for LaunchError {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

/// The error of a step that the host could not do: of kind `Host` if it lacks a resource.
pub(super) fn host_error(step: Step) -> impl Fn(io::Error) -> Error {
    move |error| {
        let kind = match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS) => ErrorKind::Host,
            _ => ErrorKind::Build,
        };
        Error::io(kind, step, error)
    }
}
