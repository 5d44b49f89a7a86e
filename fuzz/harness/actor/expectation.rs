//! The model: what becomes of a container by what its init has sent.

use super::descriptors::Descriptor;
use crate::container::fuzzing::{Reply, Request, StartBeside, WaitStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    /// The container goes on.
    Lives,
    /// The container is lost.
    Dies,
    /// The container may do either: the model does not know what the actor sees first.
    Either,
}

impl Expectation {
    /// After this reply to a request. Without `is_awaited`, the caller that waits for a run's
    /// process may be gone.
    pub(super) fn after(request: &Request, reply: &Reply, attached: &[Descriptor], is_awaited: bool) -> Self {
        match (request, reply) {
            // The actor looks at the process only for a caller that waits to see it.
            (Request::StartRun(run) | Request::StartBeside(StartBeside { run, .. }), Reply::Forked)
                if attached.len() == 1 =>
            {
                if run.announce && is_awaited {
                    Self::Dies
                } else {
                    Self::Either
                }
            }
            _ if fits(request, reply, attached) => Self::Lives,
            _ => Self::Dies,
        }
    }
}

fn fits(request: &Request, reply: &Reply, attached: &[Descriptor]) -> bool {
    match (request, reply) {
        (Request::Open(files), Reply::Opened(results)) => {
            let opened = results.iter().filter(|result| result.is_none()).count();
            let are_regular = attached.iter().all(|descriptor| descriptor.is_regular_file());
            files.len() == results.len() && opened == attached.len() && are_regular
        }
        (Request::OpenDirectory(_), Reply::Directory) => attached == [Descriptor::Directory],
        _ if !attached.is_empty() => false,
        (Request::Ping | Request::Rename(_) | Request::Reset | Request::Freeze, Reply::Done) => true,
        (Request::Signal(..), Reply::Done) => true,
        (Request::Rename(_) | Request::Open(_) | Request::Signal(..), Reply::Failed(_)) => true,
        (Request::StartRun(_) | Request::StartBeside(_), Reply::Failed(_)) => true,
        (Request::Metadata(_), Reply::Metadata(_) | Reply::Failed(_)) => true,
        (Request::ReadLink(_), Reply::Target(_) | Reply::Failed(_)) => true,
        (Request::OpenDirectory(_), Reply::Failed(_)) => true,
        (Request::Fingerprint, Reply::Fingerprint(_) | Reply::Failed(_)) => true,
        (Request::Symlink(links), Reply::Each(results)) => links.len() == results.len(),
        (Request::MakeDirectories(directories), Reply::Each(results)) => directories.len() == results.len(),
        (Request::Delete(paths), Reply::Each(results)) => paths.len() == results.len(),
        (Request::StartRun(_) | Request::StartBeside(_), Reply::Ended(measured)) => is_end(measured.status),
        _ => false,
    }
}

/// Whether wait4(2) gives this status for a process that has ended.
fn is_end(WaitStatus(status): WaitStatus) -> bool {
    const DUMPED_CORE: i32 = 0x80;
    let mut exits = (0..=255).map(|code| code << 8);
    let mut signals = (1..=64).flat_map(|signal| [signal, signal | DUMPED_CORE]);
    exits.any(|it| it == status) || signals.any(|it| it == status)
}
