//! The init's end of the socket, and the reasons for which the init exits.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stdin, dup2_stdout};

use crate::error::{Failure, ResultExt, Step};
use crate::wire::{self, Broken, Decoder, Frame, Peer, Reply, Request, State};

/// Why an init exits.
pub(super) enum End {
    /// The host closed the socket.
    Closed,
    Fatal(String),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => Self::Closed,
            broken => Self::Fatal(broken.to_string()),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Fatal(failure.to_string())
    }
}

/// The init's end of the socket.
pub(super) struct Host {
    /// Closes when the process exits, and not earlier: the host kills an init whose socket is
    /// closed, and would then miss its last words on standard error.
    socket: ManuallyDrop<OwnedFd>,
    decoder: Decoder,
}

impl Host {
    /// Moves the socket away from standard input, where programs would inherit it, and leaves
    /// /dev/null there and on standard output.
    pub(super) fn from_stdin() -> Result<Self, Failure> {
        let socket = move_from_stdin().step(Step::ResetInherited)?;
        Ok(Self { socket: ManuallyDrop::new(socket), decoder: Decoder::new(Peer::Host) })
    }

    /// Sends a reply. If its descriptors cannot be sent, sends that failure in its place.
    pub(super) fn send(&self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> Result<(), End> {
        match self.try_send(id, reply, fds)? {
            Ok(()) => Ok(()),
            Err(failure) => self.send(id, &Reply::Failed(failure), Vec::new()),
        }
    }

    /// Sends a reply. The inner result is a failure that passes; nothing of the reply was sent
    /// then.
    pub(super) fn try_send(&self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> Result<Result<(), Failure>, End> {
        for datagram in wire::encode(id, reply, fds).map_err(end_of_sending)? {
            match datagram.send(&*self.socket, true) {
                // Too many of the user's descriptors are in flight somewhere.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) && datagram.begins.is_some() => {
                    return Ok(Err(Failure::new(Step::Send, error)));
                }
                sent => sent.map_err(end_of_sending)?,
            }
        }
        Ok(Ok(()))
    }

    /// Receives the next request, which must be one that this state admits.
    pub(super) fn receive(&mut self, state: State) -> Result<Frame<Request>, End> {
        let message = self.decoder.receive(&*self.socket, true)?.ok_or(End::Closed)?;
        if !state.admits(&message.body) {
            return Err(End::Fatal(format!("a request out of place ({state:?}): {:?}", message.body)));
        }
        Ok(message)
    }

    /// Returns the value of a step that the init cannot go on without, or sends its failure to the
    /// host.
    pub(super) fn require<T>(&self, result: Result<T, Failure>) -> Result<T, End> {
        match result {
            Ok(value) => Ok(value),
            Err(failure) => {
                self.send(0, &Reply::Failed(failure.clone()), Vec::new())?;
                Err(failure.into())
            }
        }
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn end_of_sending(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => End::Closed,
        _ => End::Fatal(format!("{}: {error}", Step::Send)),
    }
}

fn move_from_stdin() -> io::Result<OwnedFd> {
    let socket = duplicate_from(io::stdin(), 3)?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(socket)
}

/// A copy of a descriptor with the lowest free number that is at least `lowest`.
pub(super) fn duplicate_from(fd: impl AsFd, lowest: i32) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, lowest)?)
}
