//! A reply that a caller waits for, and what the init's answer means for it.
//!
//! Invariant: only a reply that fits its request reaches the caller. Any other ends the container,
//! and so does a failed reset: a container that may hold something of an earlier run is not used
//! again.

use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::fingerprint::Fingerprint;
use crate::limits::Held;
use crate::observe::WatchedRun;
use crate::report::{Protections, Report};
use crate::wire::{Measurement, Reply};

pub(super) type ReplySender<T> = oneshot::Sender<Result<T>>;

#[derive(Debug)]
pub(super) enum PendingReply {
    Ping(ReplySender<()>),
    Deleted(ReplySender<()>),
    /// One result for each of this many files.
    Opened(usize, ReplySender<Vec<Result<OwnedFd>>>),
    /// One result for each of this many links.
    Linked(usize, ReplySender<Vec<Result<()>>>),
    Reset(ReplySender<()>),
    Frozen(ReplySender<()>),
    Fingerprint(ReplySender<Fingerprint>),
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
        if !fds.is_empty() && !matches!(reply, Reply::Opened(_)) {
            return Err(Error::lost("the init sent descriptors without a request for them"));
        }
        match (self, reply) {
            (Self::Ping(sender) | Self::Deleted(sender) | Self::Reset(sender) | Self::Frozen(sender), Reply::Done) => {
                sender.send(Ok(())).ok();
            }
            (Self::Opened(count, sender), Reply::Opened(results)) => {
                sender.send(Ok(opened_files(count, results, fds)?)).ok();
            }
            (Self::Linked(count, sender), Reply::Linked(results)) if results.len() == count => {
                sender.send(Ok(results.into_iter().map(file_result).collect())).ok();
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
            (pending @ Self::Deleted(_), Reply::Failed(failure)) => {
                pending.reject(Error::failure(ErrorKind::File, failure));
            }
            (pending @ (Self::Opened(..) | Self::Fingerprint(_)), Reply::Failed(failure)) => {
                pending.reject(Error::failure(ErrorKind::Host, failure));
            }
            (pending @ Self::Run(_), Reply::Failed(failure)) => {
                let kind = if is_group_failure(&failure) { ErrorKind::Host } else { ErrorKind::Exec };
                pending.reject(Error::failure(kind, failure));
            }
            (_, reply) => return Err(Error::lost(format!("the init answered something else: {reply:?}"))),
        }
        Ok(())
    }

    /// Gives an error to the caller in place of a reply.
    pub(super) fn reject(self, error: Error) {
        match self {
            Self::Ping(sender) | Self::Deleted(sender) | Self::Reset(sender) | Self::Frozen(sender) => {
                drop(sender.send(Err(error)));
            }
            Self::Opened(_, sender) => drop(sender.send(Err(error))),
            Self::Linked(_, sender) => drop(sender.send(Err(error))),
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

/// Whether a descriptor is open on a regular file. Any other file could block the caller. An
/// `O_PATH` descriptor has no content.
fn is_regular_file(fd: &OwnedFd) -> bool {
    let is_open = fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() == 0);
    is_open && fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits())
}
