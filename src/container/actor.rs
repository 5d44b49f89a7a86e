//! The actor: one task that owns one container's socket.
//!
//! Invariant: every promise is answered. A message is either in the queue, sent and unanswered, or answered; when the actor
//! ends, for whatever reason, the reason is recorded before the promises that are left are dropped, and whoever waits on
//! one looks it up there.

mod end;
mod pending;
mod requests;
mod scheduler;
mod watchdog;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::cgroup::Group;
use crate::error::{Error, Result};
use crate::report::Protections;
use crate::sys::reactor::Async;
use crate::wire::{Decoder, Frame, KillReason, Reply, Request};

use super::builder::ContainerBuilder;
use super::launch::{Launched, launch, receive};
use super::processes::Init;
use super::{ContainerInfo, Shared};

use end::{RecordDeath, destroyed, teardown};
use pending::is_of_group;
pub(super) use pending::{Answer, PendingReply};
use requests::Requests;
use scheduler::Current;
pub(super) use scheduler::{Progress, QueuedRun, Turn};
use watchdog::ReplyWatchdog;

/// What a handle sends: its question, and whose it is.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) from: Arc<Shared>,
    pub(super) message: Message,
}

/// What a handle asks of the actor.
#[derive(Debug)]
pub(super) enum Message {
    /// To be sent at once.
    Ask(Request, PendingReply),
    /// To be sent in its turn.
    Queue(Turn),
    /// Ends all that the handles so far have asked for, resets, and listens to these instead.
    Renew(Arc<Shared>, Answer<()>),
}

pub(super) struct Actor {
    messages: mpsc::Receiver<Envelope>,
    /// The handles that it listens to, which are told why it ended.
    record: RecordDeath,
    socket: Async,
    decoder: Decoder,
    init: Init,
    group: Option<Group>,
    protections: Protections,
    requests: Requests,
    queue: VecDeque<Turn>,
    current: Current,
    patience: ReplyWatchdog,
}

impl Actor {
    /// The task of a container, from its start to its end.
    pub(super) async fn build_and_serve(
        builder: ContainerBuilder,
        messages: mpsc::Receiver<Envelope>,
        shared: Arc<Shared>,
        ready: oneshot::Sender<Result<ContainerInfo>>,
    ) {
        let record = RecordDeath(shared);
        let launched = match launch(&builder).await {
            Ok(launched) => launched,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Where nobody waits for it any more there is no handle either, and it ends at once.
        drop(ready.send(Ok(launched.made)));
        Self::serve_to_the_end(launched, messages, record, builder.reply_timeout).await;
    }

    async fn serve_to_the_end(
        launched: Launched,
        messages: mpsc::Receiver<Envelope>,
        record: RecordDeath,
        patience: Duration,
    ) {
        let Launched { socket, decoder, init, stderr, group, made } = launched;
        let mut actor = Self {
            messages,
            record,
            socket,
            decoder,
            init,
            group,
            protections: made.protections,
            requests: Requests::default(),
            queue: VecDeque::new(),
            current: Current::Nobody,
            patience: ReplyWatchdog::new(patience),
        };
        let reason = actor.serve().await;
        let Self { messages, record, socket, decoder, init, group, requests, queue, current, .. } = actor;
        let reason = teardown(init, group, stderr, reason).await;
        // Nothing is left when that is told.
        drop((socket, decoder));
        let promises = requests.into_promises();
        record.set(reason);
        // Only now the promises that are left: their owners look for the reason.
        drop((promises, queue, current, messages));
    }

    /// Serves until the container is to end, and says why.
    async fn serve(&mut self) -> Error {
        loop {
            // Of all that is unanswered one may be a run, which owes nothing yet.
            self.patience.note(self.requests.unanswered() > usize::from(self.current.is_unhurried()));
            let step = tokio::select! {
                biased;
                () = self.record.0.end.cancelled() => Err(destroyed()),
                frame = receive(&self.socket, &mut self.decoder, self.requests.unanswered() > 1) => match frame {
                    Ok(Some(frame)) => self.receive(frame),
                    Ok(None) => Err(Error::lost("the init ended")),
                    Err(broken) => Err(Error::lost(format!("the init sent {broken}"))),
                },
                flushed = self.requests.flush(&self.socket), if !self.requests.all_are_sent() => flushed,
                event = self.current.event() => self.happened(event),
                reason = self.patience.end() => self.is_silent(reason),
                letter = self.messages.recv(), if self.requests.all_are_sent() => match letter {
                    Some(letter) => self.take(letter),
                    None => Err(destroyed()),
                },
            };
            if let Err(reason) = step.and_then(|()| self.next_turn()) {
                return reason;
            }
        }
    }

    fn take(&mut self, Envelope { from, message }: Envelope) -> Result<()> {
        if !Arc::ptr_eq(&from, &self.record.0) {
            // Its promise is dropped with it, and whoever waits looks for the reason.
            return Ok(());
        }
        match message {
            Message::Ask(request, promise) => {
                self.requests.ask(&self.socket, &request, Vec::new(), promise)?;
            }
            Message::Queue(turn) => self.queue.push_back(turn),
            // Whoever had it wanted it destroyed, and that may be because it is not as it should be.
            Message::Renew(..) if self.record.0.end.is_cancelled() => return Err(destroyed()),
            Message::Renew(next, answer) => {
                self.record.hand_over(next);
                self.queue.clear();
                self.queue.push_back(Turn::Reset(answer));
                self.end_turn(KillReason::Request)?;
            }
        }
        Ok(())
    }

    /// Gives a reply to whoever waits for it. One that nobody can be waiting for is the container's end.
    fn receive(&mut self, Frame { id, body, fds }: Frame<Reply>) -> Result<()> {
        self.patience.renew();
        if matches!(body, Reply::Forked) {
            return self.forked(id, fds);
        }
        let Some(promise) = self.requests.answered(id) else {
            return Err(Error::lost(format!("the init answered what nobody had asked: {body:?}")));
        };
        if let (Some(group), PendingReply::Run { .. }) = (&mut self.group, &promise) {
            match &body {
                Reply::Ended(measured) => group.ran(measured),
                // Somebody has removed it.
                Reply::Failed(failure) if is_of_group(failure) => group.forget(),
                _ => {}
            }
        }
        promise.keep(body, fds)
    }
}

#[cfg(any(fuzzing, test))]
#[cfg_attr(test, allow(unreachable_pub))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
