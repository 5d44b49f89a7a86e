//! The actor's side of the socket: requests on their way, and requests without a reply.
//!
//! Invariant: either all datagrams of a message leave, in order and with nothing between them, or
//! none.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;

use crate::container::connection::receive;
use crate::container::reply::PendingReply;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::sys::reactor::Async;
use crate::wire::{self, Datagram, Decoder, Frame, Reply, Request};

pub(super) struct Link {
    socket: Async,
    decoder: Decoder,
    /// Datagrams that wait for room in the socket.
    outbox: VecDeque<Datagram>,
    unanswered: HashMap<u64, PendingReply>,
    /// Whether the init may send two messages for one request: the announcement of a run's process,
    /// and the reply.
    may_announce: bool,
    last_id: u64,
}

impl Link {
    pub(super) fn new(socket: Async, decoder: Decoder) -> Self {
        Self { socket, decoder, outbox: VecDeque::new(), unanswered: HashMap::new(), may_announce: false, last_id: 0 }
    }

    /// Sends a request and keeps the reply to it as pending. Returns the request's id, or `None` if
    /// it cannot be sent and its caller has the error.
    pub(super) fn request(
        &mut self,
        request: &Request,
        fds: Vec<Arc<OwnedFd>>,
        pending: PendingReply,
    ) -> Result<Option<u64>> {
        self.last_id += 1;
        let id = self.last_id;
        let datagrams = match wire::encode(id, request, fds) {
            Ok(datagrams) => datagrams,
            Err(error) => {
                // A message that is too large is the caller's fault. Anything else is the host's
                // lack.
                let is_too_large = error.raw_os_error() == Some(libc::EMSGSIZE);
                let kind = if is_too_large { ErrorKind::InvalidInput } else { ErrorKind::Host };
                pending.reject(Error::io(kind, Step::Send, error));
                return Ok(None);
            }
        };
        self.unanswered.insert(id, pending);
        self.may_announce |= matches!(request, Request::StartRun(run) if run.announce);
        self.send(datagrams)?;
        Ok(self.is_unanswered(id).then_some(id))
    }

    /// Sends a request that has no reply.
    pub(super) fn notify(&mut self, request: &Request, fds: Vec<Arc<OwnedFd>>) -> Result<()> {
        self.send(wire::encode(0, request, fds).fail(ErrorKind::Host, Step::Send)?)
    }

    /// Receives the next reply, and meanwhile sends the outbox. Returns `None` once all is sent.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn drive(&mut self) -> Result<Option<Frame<Reply>>> {
        let expect_more = self.unanswered.len() > 1 || self.may_announce;
        let Self { socket, decoder, outbox, .. } = self;
        let is_flushed = outbox.is_empty();
        let refused = tokio::select! {
            biased;
            frame = receive(socket, decoder, expect_more) => return match frame {
                Ok(Some(frame)) => Ok(Some(frame)),
                Ok(None) => Err(Error::lost("the init ended")),
                Err(broken) => Err(Error::lost(format!("the init sent {broken}"))),
            },
            refused = flush(socket, outbox), if !is_flushed => refused,
        };
        refused.map_or(Ok(None), |error| self.take_back(error).map(|()| None))
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    pub(super) fn is_unanswered(&self, id: u64) -> bool {
        self.unanswered.contains_key(&id)
    }

    /// Removes the pending reply of this id.
    pub(super) fn take_pending(&mut self, id: u64) -> Option<PendingReply> {
        let pending = self.unanswered.remove(&id);
        self.may_announce &= !self.unanswered.is_empty();
        pending
    }

    /// Closes the socket, drops unsent datagrams and returns the pending replies.
    pub(super) fn close(self) -> Vec<PendingReply> {
        self.unanswered.into_values().collect()
    }

    /// Sends until the socket is full.
    fn send(&mut self, datagrams: Vec<Datagram>) -> Result<()> {
        self.outbox.extend(datagrams);
        while let Some(datagram) = self.outbox.front() {
            match datagram.send(&self.socket, false) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.take_back(error)?,
            }
        }
        Ok(())
    }

    /// Takes back the first message after the kernel has refused a datagram of it. If no datagram
    /// of the message has left, its caller gets the error; otherwise the container ends.
    fn take_back(&mut self, error: io::Error) -> Result<()> {
        if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return Err(Error::lost("the init ended"));
        }
        let refused = self.outbox.pop_front().and_then(|datagram| datagram.begins);
        let Some(pending) = refused.and_then(|id| self.take_pending(id)) else {
            return Err(Error::lost(format!("the init cannot be sent to: {error}")));
        };
        pending.reject(Error::io(ErrorKind::Host, Step::Send, error));
        while self.outbox.front().is_some_and(|datagram| datagram.begins.is_none()) {
            self.outbox.pop_front();
        }
        Ok(())
    }
}

/// Sends the outbox. Returns the error of the first datagram that the kernel refuses, and keeps it.
async fn flush(socket: &Async, outbox: &mut VecDeque<Datagram>) -> Option<io::Error> {
    while let Some(datagram) = outbox.front() {
        match socket.io(Interest::WRITABLE, |fd| datagram.send(fd, false)).await {
            Ok(()) => drop(outbox.pop_front()),
            Err(error) => return Some(error),
        }
    }
    None
}
