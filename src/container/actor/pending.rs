//! Who waits for the reply to a request, and what a reply comes to.
//!
//! Invariant: only a reply that fits its request is an answer. Any other is the container's end, and so is a reset that did
//! not make everything as good as new: what may hold something of an earlier run is not used again.

use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Failure, Result, Step};
use crate::fingerprint::Fingerprint;
use crate::limits::Held;
use crate::observe::WatchedRun;
use crate::report::{Protections, Report};
use crate::wire::Reply;

pub(in crate::container) type Answer<T> = oneshot::Sender<Result<T>>;

#[derive(Debug)]
pub(in crate::container) enum PendingReply {
    Ping(Answer<()>),
    Deleted(Answer<()>),
    /// So many files.
    Opened(usize, Answer<Vec<Result<OwnedFd>>>),
    /// So many links.
    Linked(usize, Answer<Vec<Result<()>>>),
    Reset(Answer<()>),
    Fingerprint(Answer<Fingerprint>),
    Run {
        answer: Answer<Report>,
        held: Vec<Held>,
        protections: Protections,
        watched: WatchedRun,
    },
}

impl PendingReply {
    /// Gives a reply to whoever waits for it.
    pub(super) fn keep(self, reply: Reply, fds: Vec<OwnedFd>) -> Result<()> {
        if !fds.is_empty() && !matches!(reply, Reply::Opened(_)) {
            return Err(Error::lost("the init sent descriptors that nobody had asked for"));
        }
        // An answer that nobody takes is dropped, and closes what it holds.
        match (self, reply) {
            (Self::Ping(answer) | Self::Deleted(answer) | Self::Reset(answer), Reply::Done) => {
                drop(answer.send(Ok(())));
            }
            (Self::Opened(count, answer), Reply::Opened(results)) => {
                let opened = results.iter().filter(|result| result.is_none()).count();
                if results.len() != count || opened != fds.len() || !fds.iter().all(is_regular_file) {
                    return Err(Error::lost("the init's results do not fit its descriptors"));
                }
                drop(answer.send(Ok(with_fds(results, fds))));
            }
            (Self::Linked(count, answer), Reply::Linked(results)) if results.len() == count => {
                let result = |failure| Err(Error::failure(ErrorKind::File, failure));
                drop(answer.send(Ok(results.into_iter().map(|failure| failure.map_or(Ok(()), result)).collect())));
            }
            (Self::Fingerprint(answer), Reply::Fingerprint(it)) => drop(answer.send(Ok(it.into()))),
            (Self::Run { answer, held, protections, watched }, Reply::Ended(measured)) if measured.status.is_end() => {
                let report = Report::new(measured, held, protections);
                watched.ended(&report);
                drop(answer.send(Ok(report)));
            }
            (Self::Reset(answer), Reply::Failed(failure)) => {
                let reason = format!("a reset failed: {failure}");
                drop(answer.send(Err(Error::failure(ErrorKind::File, failure))));
                return Err(Error::lost(reason));
            }
            (Self::Reset(answer), Reply::Differs { first, now }) => {
                let things = Fingerprint::from(first).differences(&now.into()).join(", ");
                let error = Error::new(ErrorKind::File, Step::CompareFingerprint).detail(things.clone());
                drop(answer.send(Err(error)));
                return Err(Error::lost(format!("after a reset these were not as they had been at first: {things}")));
            }
            (promise @ Self::Deleted(_), Reply::Failed(failure)) => {
                promise.refuse(Error::failure(ErrorKind::File, failure));
            }
            (promise @ (Self::Opened(..) | Self::Fingerprint(_)), Reply::Failed(failure)) => {
                promise.refuse(Error::failure(ErrorKind::Host, failure));
            }
            (promise @ Self::Run { .. }, Reply::Failed(failure)) => {
                let kind = if is_of_group(&failure) { ErrorKind::Host } else { ErrorKind::Exec };
                promise.refuse(Error::failure(kind, failure));
            }
            (_, reply) => return Err(Error::lost(format!("the init answered something else: {reply:?}"))),
        }
        Ok(())
    }

    /// Tells whoever waits that there is to be no reply.
    pub(super) fn refuse(self, error: Error) {
        // A caller that has gone does not mind.
        match self {
            Self::Ping(answer) | Self::Deleted(answer) | Self::Reset(answer) => drop(answer.send(Err(error))),
            Self::Opened(_, answer) => drop(answer.send(Err(error))),
            Self::Linked(_, answer) => drop(answer.send(Err(error))),
            Self::Fingerprint(answer) => drop(answer.send(Err(error))),
            Self::Run { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}

/// Whether it is the group's failure, and not the program's.
pub(super) fn is_of_group(failure: &Failure) -> bool {
    matches!(failure.step, Step::EnterGroup | Step::ReadGroup)
}

/// What else could make the caller wait, or be more than was asked for; and what only names a file has no content.
fn is_regular_file(fd: &OwnedFd) -> bool {
    let is_open = fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() == 0);
    is_open && fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits())
}

/// Each result with its descriptor.
fn with_fds(results: Vec<Option<Failure>>, fds: Vec<OwnedFd>) -> Vec<Result<OwnedFd>> {
    let mut fds = fds.into_iter();
    let result = |failure: Option<Failure>| match failure {
        Some(failure) => Err(Error::failure(ErrorKind::File, failure)),
        None => fds.next().ok_or_else(|| Error::lost("fewer descriptors than results")),
    };
    results.into_iter().map(result).collect()
}
