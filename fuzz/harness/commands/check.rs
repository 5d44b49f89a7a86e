//! The model: which replies the init owes, and what each may say.

use std::os::fd::OwnedFd;

use nix::sys::stat::{SFlag, fstat};

use crate::container::Fingerprint;
use crate::container::fuzzing::{Failure, Reply, Step};
use crate::report::Status;

/// A reply that the init owes.
#[derive(Debug)]
pub(super) enum Owed {
    Done,
    DoneOrFailed,
    Opened(usize),
    Each(usize),
    Metadata,
    Target,
    Directory,
    Fingerprint,
}

/// A run that the init has been sent, and that is not over.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: u64,
    pub(super) is_to_be_announced: bool,
    /// Whether the run that this one was to be beside is over, so that this one cannot begin.
    pub(super) is_too_late: bool,
}

/// What the fuzzer is told of replies. Each kind has a detail of eight bits.
#[derive(Clone, Copy)]
enum Kind {
    Ended = 1,
    RunFailedAt,
    RunFailedWith,
    PathFailedWith,
    PathFailedAt,
    OpenFailedWith,
    OpenFailedAt,
    EachFailedWith,
}

/// The numbers that tell the fuzzer what was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) numbers: Vec<usize>,
    pub(super) is_running: bool,
}

impl Seen {
    fn note(&mut self, kind: Kind, detail: usize) {
        self.numbers.push(((kind as usize) << 8 | detail & 0xff) << 1 | usize::from(self.is_running));
    }

    fn note_errno(&mut self, kind: Kind, failure: &Failure) {
        self.note(kind, failure.errno as usize);
    }
}

impl Running {
    /// Whether this reply ends the run.
    pub(super) fn check(&mut self, reply: Reply, fds: &[OwnedFd], seen: &mut Seen) -> bool {
        if self.is_too_late {
            assert!(matches!(&reply, Reply::Failed(Failure { step: Step::FindRun, .. })), "too late: {reply:?}");
        }
        match reply {
            Reply::Forked => {
                assert!(self.is_to_be_announced && fds.len() == 1, "a process is announced, with {} fds", fds.len());
                self.is_to_be_announced = false;
                return false;
            }
            Reply::Ended(measured) => {
                assert!(measured.status.is_end() && fds.is_empty(), "{measured:?}");
                seen.note(Kind::Ended, Status::from(measured.status).shell_code() as usize);
            }
            Reply::Failed(failure) => {
                seen.note(Kind::RunFailedAt, failure.step as usize);
                seen.note_errno(Kind::RunFailedWith, &failure);
            }
            other => panic!("a run's reply: {other:?}"),
        }
        true
    }
}

impl Owed {
    /// Checks the reply to a request that is no run. Returns the fingerprint that was asked for.
    pub(super) fn check(self, reply: Reply, fds: &[OwnedFd], seen: &mut Seen) -> Option<Fingerprint> {
        match (self, reply) {
            (Self::Done | Self::DoneOrFailed, Reply::Done) => {}
            (Self::Metadata, Reply::Metadata(_)) | (Self::Target, Reply::Target(_)) => assert!(fds.is_empty()),
            (Self::Directory, Reply::Directory) => assert!(fds.len() == 1 && is_open_on(&fds[0], SFlag::S_IFDIR)),
            (Self::DoneOrFailed | Self::Metadata | Self::Target | Self::Directory, Reply::Failed(failure)) => {
                seen.note_errno(Kind::PathFailedWith, &failure);
                seen.note(Kind::PathFailedAt, failure.step as usize);
            }
            (Self::Opened(count), Reply::Opened(results)) => {
                assert_eq!(results.len(), count);
                assert_eq!(results.iter().filter(|result| result.is_none()).count(), fds.len());
                assert!(fds.iter().all(|fd| is_open_on(fd, SFlag::S_IFREG)));
                for failure in results.iter().flatten() {
                    seen.note_errno(Kind::OpenFailedWith, failure);
                    seen.note(Kind::OpenFailedAt, failure.step as usize);
                }
            }
            // So many descriptors cannot be sent.
            (Self::Opened(_), Reply::Failed(Failure { step: Step::Send, .. })) => {}
            (Self::Each(count), Reply::Each(results)) => {
                assert_eq!(results.len(), count);
                results.iter().flatten().for_each(|failure| seen.note_errno(Kind::EachFailedWith, failure));
            }
            (Self::Fingerprint, Reply::Fingerprint(fingerprint)) => return Some(fingerprint.into()),
            (owed, reply) => panic!("{reply:?} where {owed:?} was owed"),
        }
        None
    }
}

fn is_open_on(fd: &OwnedFd, file_type: SFlag) -> bool {
    fstat(fd).expect("the descriptor is open").st_mode & SFlag::S_IFMT.bits() == file_type.bits()
}
