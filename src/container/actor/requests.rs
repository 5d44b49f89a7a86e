//! The requests that are on their way to the init, or have no reply yet.
//!
//! Invariant: a message's datagrams leave in order and with nothing between them, or none of them does.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::sys::reactor::Async;
use crate::wire::{self, Datagram, Request};

use super::pending::PendingReply;

#[derive(Default)]
pub(super) struct Requests {
    outbox: VecDeque<Datagram>,
    unanswered: HashMap<u64, PendingReply>,
    last_id: u64,
}

impl Requests {
    /// Sends a request and notes who waits for its reply. Gives its id; `None` where it cannot be sent, which whoever waits is
    /// told.
    pub(super) fn ask(
        &mut self,
        to: &Async,
        request: &Request,
        fds: Vec<Arc<OwnedFd>>,
        promise: PendingReply,
    ) -> Result<Option<u64>> {
        self.last_id += 1;
        let id = self.last_id;
        let datagrams = match wire::encode(id, request, fds) {
            Ok(datagrams) => datagrams,
            Err(error) => {
                // Too large is the caller's doing; anything else is the host's lack.
                let is_too_large = error.raw_os_error() == Some(libc::EMSGSIZE);
                let kind = if is_too_large { ErrorKind::InvalidInput } else { ErrorKind::Host };
                promise.refuse(Error::io(kind, Step::Send, error));
                return Ok(None);
            }
        };
        self.unanswered.insert(id, promise);
        self.send(to, datagrams)?;
        Ok(self.is_unanswered(id).then_some(id))
    }

    /// Sends a request that has no reply.
    pub(super) fn say(&mut self, to: &Async, request: &Request, fds: Vec<Arc<OwnedFd>>) -> Result<()> {
        let datagrams = wire::encode(0, request, fds);
        self.send(to, datagrams.map_err(|error| Error::io(ErrorKind::Host, Step::Send, error))?)
    }

    pub(super) fn all_are_sent(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Sends all that waits for room in the socket. Dropping the future loses nothing.
    pub(super) async fn flush(&mut self, to: &Async) -> Result<()> {
        while let Some(datagram) = self.outbox.front() {
            match to.io(Interest::WRITABLE, |fd| datagram.send(fd, false)).await {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) => self.take_back(error)?,
            }
        }
        Ok(())
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    pub(super) fn is_unanswered(&self, id: u64) -> bool {
        self.unanswered.contains_key(&id)
    }

    /// Who waits for the reply that has come.
    pub(super) fn answered(&mut self, id: u64) -> Option<PendingReply> {
        self.unanswered.remove(&id)
    }

    /// Gives up what waits to be sent, and leaves who waits for a reply.
    pub(super) fn into_promises(self) -> impl Iterator<Item = PendingReply> {
        self.unanswered.into_values()
    }

    /// Sends, until the socket is full.
    fn send(&mut self, to: &Async, datagrams: Vec<Datagram>) -> Result<()> {
        self.outbox.extend(datagrams);
        while let Some(datagram) = self.outbox.front() {
            match datagram.send(to, false) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.take_back(error)?,
            }
        }
        Ok(())
    }

    /// Takes back the first message, of which the kernel has refused a datagram. That is its caller's failure where nothing of
    /// it has left; where something has, it is the container's.
    fn take_back(&mut self, error: io::Error) -> Result<()> {
        if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return Err(Error::lost("the init ended"));
        }
        let refused = self.outbox.pop_front().and_then(|datagram| datagram.begins);
        let Some(promise) = refused.and_then(|id| self.answered(id)) else {
            return Err(Error::lost(format!("the init cannot be sent to: {error}")));
        };
        promise.refuse(Error::io(ErrorKind::Host, Step::Send, error));
        while self.outbox.front().is_some_and(|datagram| datagram.begins.is_none()) {
            self.outbox.pop_front();
        }
        Ok(())
    }
}
