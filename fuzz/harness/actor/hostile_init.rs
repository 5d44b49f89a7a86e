//! The compromised init: it answers any id with any reply, and knows what the container has to make
//! of that.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::fake_init::FakeInit;
use super::descriptors::{DESCRIPTORS, Descriptor, Descriptors};
use super::expectation::Expectation;
use super::replies::reply;
use crate::container::fuzzing::{Frame, Reply, Request, encode};

pub(super) struct HostileInit {
    open: Option<Open>,
    /// The requests that are received and unanswered.
    owed: Vec<Frame<Request>>,
    answered: Vec<u64>,
    pub(super) expectation: Expectation,
    has_announced: bool,
    may_be_killing: bool,
    pub(super) has_sent_itself: bool,
}

/// What the init has until it closes its socket.
struct Open {
    init: FakeInit,
    descriptors: Descriptors,
}

impl HostileInit {
    pub(super) fn new(init: FakeInit, leak_check: OwnedFd) -> Self {
        let descriptors = Descriptors::open(&init, leak_check);
        Self {
            open: Some(Open { init, descriptors }),
            owed: Vec::new(),
            answered: Vec::new(),
            expectation: Expectation::Lives,
            has_announced: false,
            may_be_killing: false,
            has_sent_itself: false,
        }
    }

    pub(super) fn close(&mut self) {
        self.open = None;
        self.expectation = Expectation::Either;
    }

    /// A run's caller may be gone, so the actor may kill the run.
    pub(super) fn may_be_told_to_kill(&mut self) {
        self.may_be_killing = true;
        // The announcement may be on its way.
        if self.has_announced {
            self.expectation = Expectation::Either;
        }
    }

    /// Receives a request. Returns false if there is none.
    pub(super) fn receive(&mut self) -> bool {
        let Some(Open { init, .. }) = &mut self.open else { return false };
        let Ok(Some(request)) = init.receive(false) else { return false };
        if !matches!(request.body, Request::Kill(..)) {
            // The descriptors are closed, as an init closes them once the child has its copies.
            self.owed.push(Frame { fds: Vec::new(), ..request });
        }
        true
    }

    /// Answers every request with a reply that fits.
    pub(super) fn answer_all(&mut self) {
        while !self.owed.is_empty() {
            let before = self.owed.len();
            self.answer(0, 0, 0);
            assert!(self.owed.len() < before, "a reply that fits can be sent");
        }
    }

    pub(super) fn answer(&mut self, whose: u8, kind: u8, detail: u8) {
        let Some(Open { descriptors, .. }) = &self.open else { return };
        let (id, place) = self.find(whose);
        let request = place.map(|place| &self.owed[place].body);
        let reply = reply(request, kind, detail);
        let attached = attachments(&reply, detail);
        let fds = attached.iter().map(|&descriptor| descriptors.get(descriptor)).collect();
        let expectation = match request {
            Some(request) => Expectation::after(request, &reply, &attached, !self.may_be_killing),
            None => Expectation::Dies,
        };
        if !self.send(id, &reply, fds) {
            return;
        }
        let is_announcement = matches!(reply, Reply::Forked);
        self.has_announced |= is_announcement;
        self.has_sent_itself |= attached.contains(&Descriptor::Socket);
        if let (Some(place), false) = (place, is_announcement) {
            self.answered.push(self.owed.swap_remove(place).id);
        }
        if self.expectation == Expectation::Lives {
            self.expectation = expectation;
        }
    }

    /// The id to answer, and the place of its request among those that are owed a reply.
    fn find(&self, whose: u8) -> (u64, Option<usize>) {
        let last = self.owed.iter().map(|frame| frame.id).chain(self.answered.iter().copied()).max().unwrap_or(0);
        // The id of a request that is sent and not yet received could fit: this one is far ahead.
        let unsent = last + 1000;
        match whose {
            0xf0..=0xf3 => (0, None),
            0xf4..=0xf7 => (unsent, None),
            0xf8..=0xfb => (u64::MAX, None),
            0xfc.. => (self.answered.last().copied().unwrap_or(0), None),
            _ if self.owed.is_empty() => (unsent, None),
            _ => {
                let place = usize::from(whose) % self.owed.len();
                (self.owed[place].id, Some(place))
            }
        }
    }

    /// Sends a reply as far as the socket has room for it. Returns false if nothing was sent.
    fn send(&mut self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> bool {
        let Some(Open { init, .. }) = &self.open else { return false };
        let Ok(datagrams) = encode(id, reply, fds) else { return false };
        let count = datagrams.len();
        let sent = datagrams.into_iter().take_while(|it| it.send(init, false).is_ok()).count();
        if (1..count).contains(&sent) {
            self.expectation = Expectation::Either;
        }
        sent > 0
    }

    /// Sends a reply that is one byte longer or shorter, or of which one byte is another.
    pub(super) fn garble(&mut self, whose: u8, at: u8, byte: u8) {
        let Some(Open { init, .. }) = &self.open else { return };
        let (id, place) = self.find(whose);
        let reply = reply(place.map(|place| &self.owed[place].body), at >> 5, 0);
        let Ok(datagrams) = encode(id, &reply, Vec::new()) else { return };
        let Some(mut bytes) = datagrams.into_iter().next().map(|datagram| datagram.bytes) else { return };
        let at = usize::from(at & 0x1f) % bytes.len();
        match byte {
            0 => bytes.truncate(at),
            1 => bytes.push(0),
            _ => bytes[at] = byte,
        }
        self.expectation = Expectation::Either;
        // The host may have closed, or the socket may be full.
        init.send(bytes, Vec::new(), false).ok();
    }

    /// Sends the first datagram of a message, and no other.
    pub(super) fn send_part(&mut self) {
        let Some(Open { init, descriptors }) = &self.open else { return };
        self.expectation = Expectation::Either;
        init.send(vec![1, 0x92], vec![descriptors.get(Descriptor::Memfd)], false).ok();
    }
}

/// The descriptors that a reply names, except for a few details: one too many or too few, many, or
/// the last of another kind.
fn attachments(reply: &Reply, detail: u8) -> Vec<Descriptor> {
    let (usual, named) = match reply {
        Reply::Opened(results) => (Descriptor::Memfd, results.iter().filter(|result| result.is_none()).count()),
        Reply::Forked | Reply::Started => (Descriptor::Pidfd, 1),
        Reply::Directory => (Descriptor::Directory, 1),
        _ => (Descriptor::Memfd, 0),
    };
    let mut attached = vec![usual; named];
    match detail >> 3 {
        1 => attached.push(usual),
        2 => drop(attached.pop()),
        3 => attached.extend([usual; 253]),
        number @ 8..16 => {
            if let Some(last) = attached.last_mut() {
                *last = DESCRIPTORS[usize::from(number) % DESCRIPTORS.len()];
            }
        }
        _ => {}
    }
    attached
}
