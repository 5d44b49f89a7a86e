//! A reply that a caller waits for, and what the init's answer means for it.
//!
//! Invariant: only a reply that fits its request reaches the caller. Any other ends the container,
//! and so does a failed reset: a container that may hold something of an earlier run is not used
//! again.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::fingerprint::Fingerprint;
use crate::limits::Held;
use crate::observe::WatchedRun;
use crate::report::{Protections, Report};
use crate::wire::{Measurement, RawMetadata, Reply};

pub(super) type ReplySender<T> = oneshot::Sender<Result<T>>;

#[derive(Debug)]
pub(super) enum PendingReply {
    Ping(ReplySender<()>),
    Renamed(ReplySender<()>),
    /// One result for each of this many files.
    Opened(usize, ReplySender<Vec<Result<OwnedFd>>>),
    /// One result for each of this many paths.
    Each(usize, ReplySender<Vec<Result<()>>>),
    Metadata(ReplySender<RawMetadata>),
    Target(ReplySender<PathBuf>),
    Directory(ReplySender<OwnedFd>),
    Reset(ReplySender<()>),
    Frozen(ReplySender<()>),
    Fingerprint(ReplySender<Fingerprint>),
    Signaled(ReplySender<()>),
    Run(PendingRun),
}

#[derive(Debug)]
pub(super) struct PendingRun {
    pub(super) outcome: ReplySender<Report>,
    pub(super) held: Vec<Held>,
    pub(super) protections: Protections,
    pub(super) watched: WatchedRun,
}

impl PendingReply {
    /// Gives the init's reply to the caller. `Err` is the reason to end the container.
    ///
    /// A caller may be gone. Its value is dropped then, which closes the descriptors in it.
    pub(super) fn deliver(self, reply: Reply, fds: Vec<OwnedFd>) -> Result<()> {
        if !fds.is_empty() && !matches!(reply, Reply::Opened(_) | Reply::Directory) {
            return Err(Error::lost("the init sent descriptors without a request for them"));
        }
        match (self, reply) {
            (
                Self::Ping(sender)
                | Self::Renamed(sender)
                | Self::Reset(sender)
                | Self::Frozen(sender)
                | Self::Signaled(sender),
                Reply::Done,
            ) => {
                sender.send(Ok(())).ok();
            }
            (Self::Opened(count, sender), Reply::Opened(results)) => {
                sender.send(Ok(opened_files(count, results, fds)?)).ok();
            }
            (Self::Each(count, sender), Reply::Each(results)) if results.len() == count => {
                sender.send(Ok(results.into_iter().map(file_result).collect())).ok();
            }
            (Self::Metadata(sender), Reply::Metadata(metadata)) => {
                sender.send(Ok(metadata)).ok();
            }
            (Self::Target(sender), Reply::Target(target)) => {
                sender.send(Ok(target)).ok();
            }
            (Self::Directory(sender), Reply::Directory) => {
                sender.send(Ok(opened_directory(fds)?)).ok();
            }
            (Self::Fingerprint(sender), Reply::Fingerprint(fingerprint)) => {
                sender.send(Ok(fingerprint.into())).ok();
            }
            (Self::Run(run), Reply::Ended(measured)) if measured.status.is_end() => run.finish(measured),
            (Self::Reset(sender), Reply::Failed(failure)) => {
                let reason = Error::lost(format!("a reset failed: {failure}"));
                sender.send(Err(Error::failure(ErrorKind::File, failure))).ok();
                return Err(reason);
            }
            (Self::Frozen(sender), Reply::Failed(failure)) => {
                let reason = Error::lost(format!("keeping what set-up commands left failed: {failure}"));
                sender.send(Err(Error::failure(ErrorKind::Build, failure))).ok();
                return Err(reason);
            }
            (Self::Reset(sender), Reply::Differs { first, now }) => {
                let things = Fingerprint::from(first).differences(&now.into()).join(", ");
                let reason = Error::lost(format!("after a reset these were not as they had been at first: {things}"));
                sender.send(Err(Error::new(ErrorKind::File, Step::CompareFingerprint).detail(things))).ok();
                return Err(reason);
            }
            // Too many descriptors are in flight.
            (pending @ Self::Directory(_), Reply::Failed(failure)) if failure.step == Step::Send => {
                pending.reject(Error::failure(ErrorKind::Host, failure));
            }
            (
                pending @ (Self::Renamed(_) | Self::Metadata(_) | Self::Target(_) | Self::Directory(_)),
                Reply::Failed(failure),
            ) => pending.reject(Error::failure(ErrorKind::File, failure)),
            (pending @ (Self::Opened(..) | Self::Fingerprint(_)), Reply::Failed(failure)) => {
                pending.reject(Error::failure(ErrorKind::Host, failure));
            }
            (pending @ Self::Run(_), Reply::Failed(failure)) => {
                pending.reject(match failure.step {
                    // The run has ended while the request was on its way.
                    Step::FindRun => no_run_to_be_beside(),
                    Step::EnterPidNamespace => Error::failure(ErrorKind::Host, failure),
                    _ if is_group_failure(&failure) => Error::failure(ErrorKind::Host, failure),
                    _ => Error::failure(ErrorKind::Exec, failure),
                });
            }
            (pending @ Self::Signaled(_), Reply::Failed(failure)) => {
                let kind = if failure.errno == libc::ESRCH { ErrorKind::NotRunning } else { ErrorKind::Host };
                pending.reject(Error::failure(kind, failure));
            }
            (_, reply) => return Err(Error::lost(format!("the init answered something else: {reply:?}"))),
        }
        Ok(())
    }

    /// Gives an error to the caller in place of a reply.
    pub(super) fn reject(self, error: Error) {
        match self {
            Self::Ping(sender)
            | Self::Renamed(sender)
            | Self::Reset(sender)
            | Self::Frozen(sender)
            | Self::Signaled(sender) => {
                drop(sender.send(Err(error)));
            }
            Self::Opened(_, sender) => drop(sender.send(Err(error))),
            Self::Each(_, sender) => drop(sender.send(Err(error))),
            Self::Metadata(sender) => drop(sender.send(Err(error))),
            Self::Target(sender) => drop(sender.send(Err(error))),
            Self::Directory(sender) => drop(sender.send(Err(error))),
            Self::Fingerprint(sender) => drop(sender.send(Err(error))),
            Self::Run(run) => drop(run.outcome.send(Err(error))),
        }
    }
}

impl PendingRun {
    fn finish(self, measured: Measurement) {
        let report = Report::new(measured, self.held, self.protections);
        self.watched.finish(&report);
        self.outcome.send(Ok(report)).ok();
    }
}

/// The error of a control group that could not be prepared for a run.
pub(super) fn group_error(failure: Failure) -> Error {
    let is_cpu_set = failure.path.as_ref().is_some_and(|path| path.ends_with("cpuset.cpus"));
    // CPUs that are off, or that the group above does not have.
    let lacks_cpus = is_cpu_set && [libc::EINVAL, libc::ERANGE, libc::EACCES, libc::ENOSPC].contains(&failure.errno);
    Error::failure(if lacks_cpus { ErrorKind::Unsupported } else { ErrorKind::Host }, failure)
}

pub(super) fn no_run_to_be_beside() -> Error {
    Error::new(ErrorKind::NotRunning, Step::FindRun).detail("there is no run to be beside")
}

/// Whether the control group failed, and not the program.
pub(super) fn is_group_failure(failure: &Failure) -> bool {
    matches!(failure.step, Step::EnterGroup | Step::ReadGroup)
}

fn file_result(failure: Option<Failure>) -> Result<()> {
    failure.map_or(Ok(()), |failure| Err(Error::failure(ErrorKind::File, failure)))
}

/// One result a file. Every result without a failure has a descriptor of a regular file.
fn opened_files(count: usize, results: Vec<Option<Failure>>, fds: Vec<OwnedFd>) -> Result<Vec<Result<OwnedFd>>> {
    let opened = results.iter().filter(|result| result.is_none()).count();
    if results.len() != count || opened != fds.len() || !fds.iter().all(is_regular_file) {
        return Err(Error::lost("the init's results do not fit its descriptors"));
    }
    let mut fds = fds.into_iter();
    let opened_file = |failure| {
        file_result(failure)?;
        fds.next().ok_or_else(|| Error::lost("fewer descriptors than results"))
    };
    Ok(results.into_iter().map(opened_file).collect())
}

/// The one descriptor, of a directory.
fn opened_directory(fds: Vec<OwnedFd>) -> Result<OwnedFd> {
    match <[OwnedFd; 1]>::try_from(fds) {
        Ok([fd]) if is_open_on(&fd, SFlag::S_IFDIR) => Ok(fd),
        _ => Err(Error::lost("the init sent no directory where one was asked for")),
    }
}

fn is_regular_file(fd: &OwnedFd) -> bool {
    is_open_on(fd, SFlag::S_IFREG)
}

/// Whether a descriptor is open on a file of this type. Any other file could block the caller. An
/// `O_PATH` descriptor has no content.
fn is_open_on(fd: &OwnedFd, file_type: SFlag) -> bool {
    let is_open = fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() == 0);
    is_open && fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == file_type.bits())
}
