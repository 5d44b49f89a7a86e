//! The actor: one task that owns one container's socket.
//!
//! Invariant: every message gets an answer. A message is in the mailbox, in the queue, without a
//! reply, or answered. When the actor ends, for whatever reason, it records the reason before it
//! drops what has no answer. A caller whose reply is dropped reads the reason from the record.

mod besides;
mod group_worker;
mod link;
mod live_run;
mod scheduler;
mod teardown;
mod watchdog;

use std::fs::File;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::wire::{Frame, Reply};

use super::connection::Connection;
use super::death::DeathGuard;
use super::message::{Envelope, Message};
use super::processes::Pid1;
use super::reply::PendingReply;

use link::Link;
use scheduler::Scheduler;
use teardown::teardown;
use watchdog::ReplyWatchdog;

/// Serves the handles of a container until it ends.
pub(super) async fn serve(
    connection: Connection,
    messages: mpsc::Receiver<Envelope>,
    death: DeathGuard,
    reply_timeout: Duration,
) {
    let Connection { socket, decoder, pid1, stderr, group, info } = connection;
    let mut actor = Actor {
        messages,
        death,
        link: Link::new(socket, decoder),
        pid1,
        scheduler: Scheduler::new(group, info.protections, reply_timeout),
        watchdog: ReplyWatchdog::new(reply_timeout),
    };
    let reason = actor.serve().await;
    actor.end(stderr, reason).await;
}

struct Actor {
    messages: mpsc::Receiver<Envelope>,
    /// The record of the handles that the actor serves.
    death: DeathGuard,
    link: Link,
    pid1: Pid1,
    scheduler: Scheduler,
    watchdog: ReplyWatchdog,
}

impl Actor {
    /// Serves until the container is to end, and returns the reason.
    async fn serve(&mut self) -> Error {
        loop {
            self.watchdog.set_owed(self.is_reply_owed());
            let step = tokio::select! {
                biased;
                () = self.death.end_requested() => Err(destroyed()),
                reply = self.link.drive() => reply.and_then(|reply| reply.map_or(Ok(()), |frame| self.deliver(frame))),
                event = self.scheduler.event() => self.scheduler.handle(event, &mut self.link),
                timeout = self.watchdog.expired() => self.on_timeout(timeout),
                envelope = self.messages.recv(), if self.link.is_flushed() => match envelope {
                    Some(envelope) => self.accept(envelope),
                    None => Err(destroyed()),
                },
            };
            if let Err(reason) = step.and_then(|()| self.scheduler.start_next(&mut self.link)) {
                return reason;
            }
        }
    }

    /// Ends the container, records the reason, and only then drops what has no answer.
    async fn end(self, stderr: File, reason: Error) {
        let Self { messages, death, link, pid1, mut scheduler, .. } = self;
        let reason = teardown(pid1, scheduler.take_groups(), stderr, reason).await;
        // The reason is told when nothing of the container is left.
        let unanswered = link.close();
        death.set(reason);
        drop((unanswered, scheduler, messages));
    }

    /// Whether the init owes a reply. Of the requests without one, the runs that go on owe none
    /// yet.
    fn is_reply_owed(&self) -> bool {
        self.link.unanswered() > self.scheduler.count_unhurried()
    }

    /// Takes a message from a handle.
    fn accept(&mut self, Envelope { from, message }: Envelope) -> Result<()> {
        if !self.death.is_for(&from) {
            // The lease of that handle is over. Its reply is dropped, and the caller reads the
            // reason.
            return Ok(());
        }
        match message {
            Message::Request(request, pending) => self.link.request(&request, Vec::new(), pending).map(drop),
            Message::Queue(operation) => {
                self.scheduler.push(operation);
                Ok(())
            }
            Message::Beside(main, run) => self.scheduler.begin_beside(main, run, &mut self.link),
            Message::Signal(run, number, reply) => self.scheduler.signal(run, number, reply, &mut self.link),
            // The holder of the lease wanted the container destroyed, perhaps because it is not as
            // it should be.
            Message::Renew(..) if self.death.is_end_requested() => Err(destroyed()),
            Message::Renew(next, reset) => {
                self.death.replace(next);
                self.scheduler.renew(reset, &mut self.link)
            }
        }
    }

    /// Gives a reply to its caller. A reply that no caller can be waiting for ends the container.
    fn deliver(&mut self, Frame { id, body, fds }: Frame<Reply>) -> Result<()> {
        self.watchdog.reset();
        if matches!(body, Reply::Forked) {
            return self.scheduler.show_process(id, fds, &self.pid1);
        }
        let Some(pending) = self.link.take_pending(id) else {
            return Err(Error::lost(format!("the init sent a reply without a request: {body:?}")));
        };
        match pending {
            PendingReply::Run(_) => self.scheduler.account(id, &body),
            PendingReply::Reset(_) | PendingReply::Frozen(_) => self.scheduler.renew_memory(),
            _ => {}
        }
        pending.deliver(body, fds)
    }

    fn on_timeout(&mut self, timeout: Error) -> Result<()> {
        self.scheduler.on_timeout(timeout, &mut self.link)?;
        self.watchdog.reset();
        Ok(())
    }
}

fn destroyed() -> Error {
    Error::new(ErrorKind::Destroyed, Step::Serve)
}

#[cfg(test)]
mod tests;
