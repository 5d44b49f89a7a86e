//! The sending end of an actor's mailbox.
//!
//! Invariant: every call ends. If the actor ends first, the call returns the reason in the record.
//! The container lives at least as long as one mailbox does.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::error::Result;

use super::death::DeathRecord;
use super::message::{Envelope, Message, RunKey};
use super::reply::ReplySender;

/// Sends to the actor, for one record.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    sender: mpsc::Sender<Envelope>,
    record: Arc<DeathRecord>,
}

impl Mailbox {
    /// A mailbox that holds up to `capacity` messages. If it is full, callers wait.
    pub(super) fn new(capacity: usize) -> (Self, mpsc::Receiver<Envelope>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, record: Arc::default() }, receiver)
    }

    /// The same mailbox, with a record for the next lease.
    pub(super) fn for_next_lease(&self) -> Self {
        Self { sender: self.sender.clone(), record: Arc::default() }
    }

    pub(crate) fn record(&self) -> &Arc<DeathRecord> {
        &self.record
    }

    /// Sends a message and waits for its reply.
    pub(super) async fn call<T>(&self, message: impl FnOnce(ReplySender<T>) -> Message) -> Result<T> {
        let (sender, reply) = oneshot::channel();
        self.send(message(sender)).await?;
        self.reply(reply).await
    }

    /// Sends a signal to the program of a run.
    pub(crate) async fn signal(&self, run: RunKey, number: i32) -> Result<()> {
        self.call(|sender| Message::Signal(run, number, sender)).await
    }

    /// Sends a message, unless the record has a reason.
    pub(super) async fn send(&self, message: Message) -> Result<()> {
        match self.record.reason() {
            Some(reason) => Err(reason.clone()),
            None => self.send_unchecked(message).await,
        }
    }

    /// Sends a message. The actor ignores one whose record it does not serve.
    pub(super) async fn send_unchecked(&self, message: Message) -> Result<()> {
        match self.sender.send(Envelope { from: Arc::clone(&self.record), message }).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.record.wait().await),
        }
    }

    /// Waits for a reply, or for the reason why there is none.
    pub(super) async fn reply<T>(&self, reply: oneshot::Receiver<Result<T>>) -> Result<T> {
        match reply.await {
            Ok(result) => result,
            Err(_) => Err(self.record.wait().await),
        }
    }

    /// Waits until the actor has ended. It drops its end of the mailbox last.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
