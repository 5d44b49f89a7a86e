//! Who has which container, and who waits for one.
//!
//! Invariant: every number that has a keeper is in `slots`, every container that may be lent in `idle`, and `left` is what
//! the leases leave of the memory. The first who waits is served as soon as all it wants is there, and nobody before it.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::Limits;
use crate::observe::{self, Event};

use super::lease::Lease;

/// What the containers of a pool are doing, and who waits: from [`Pool::status`](super::Pool::status).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// How many containers there are to be.
    pub size: usize,
    /// Those that can be lent at once.
    pub ready: usize,
    /// Those that are lent.
    pub leased: usize,
    /// Those that came back and are being reset or destroyed.
    pub returning: usize,
    /// Those that are being built.
    pub building: usize,
    /// Those that could not be built the last time; it is tried again.
    pub broken: usize,
    /// How many wait for a lease.
    pub waiting: usize,
    /// Bytes of memory that no lease has, where the pool [counts](super::PoolBuilder::memory) them.
    pub memory_left: Option<u64>,
}

/// What somebody asks for: so many containers at once, with this much memory each.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseRequest {
    containers: usize,
    memory: u64,
    /// Whether it waits also where the queue is full, or the last attempt at every container has failed.
    is_patient: bool,
}

impl LeaseRequest {
    pub(super) fn one(memory: u64) -> Self {
        Self { containers: 1, memory, is_patient: false }
    }

    pub(super) fn times(self, containers: usize) -> Self {
        Self { containers, ..self }
    }

    pub(super) fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    pub(super) fn is_patient(&self) -> bool {
        self.is_patient
    }

    fn all_memory(&self) -> u64 {
        self.memory.saturating_mul(self.containers as u64)
    }
}

/// What comes of a question.
pub(super) enum Acquire {
    Now(Vec<Lease>),
    /// The place in the queue, and what comes when its turn has.
    Later(u64, oneshot::Receiver<Result<Vec<Lease>>>),
}

/// What a keeper is at. The figures are bytes of memory that a lease has.
#[derive(Debug)]
enum Slot {
    Building,
    Broken(Error),
    Idle,
    Lent(u64),
    Returning(u64),
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    want: LeaseRequest,
    leases: oneshot::Sender<Result<Vec<Lease>>>,
}

#[derive(Debug)]
struct Memory {
    total: u64,
    left: u64,
}

#[derive(Debug)]
pub(super) struct State {
    is_open: bool,
    /// When what is still lent is to be destroyed.
    kill_at: Option<Instant>,
    size: usize,
    slots: BTreeMap<usize, Slot>,
    /// The last that came back is the first to be lent: what it has in the caches is used again.
    idle: Vec<(usize, Container)>,
    waiting: VecDeque<Waiter>,
    /// How many may wait.
    queue: usize,
    last_ticket: u64,
    memory: Option<Memory>,
}

impl State {
    pub(super) fn new(queue: usize, memory: Option<u64>) -> Self {
        Self {
            is_open: true,
            kill_at: None,
            size: 1,
            slots: BTreeMap::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            queue,
            last_ticket: 0,
            memory: memory.map(|total| Memory { total, left: total }),
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let mut status = PoolStatus {
            size: self.size,
            waiting: self.waiting.len(),
            memory_left: self.memory.as_ref().map(|memory| memory.left),
            ..PoolStatus::default()
        };
        for slot in self.slots.values() {
            *match slot {
                Slot::Building => &mut status.building,
                Slot::Broken(_) => &mut status.broken,
                Slot::Idle => &mut status.ready,
                Slot::Lent(_) => &mut status.leased,
                Slot::Returning(_) => &mut status.returning,
            } += 1;
        }
        status
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// What somebody wants who does not say: the default of a run, if there can be that much.
    pub(super) fn default_want(&self) -> LeaseRequest {
        let usual = Limits::new().memory_or_default();
        LeaseRequest::one(self.memory.as_ref().map_or(usual, |memory| usual.min(memory.total)))
    }

    pub(super) fn ask(&mut self, want: LeaseRequest) -> Result<Acquire> {
        if !self.is_open {
            return Err(closed());
        }
        self.check(&want)?;
        // Who is patient waits for what comes of the next attempt.
        if let Some(error) = self.is_hopeless().filter(|_| !want.is_patient) {
            return Err(error);
        }
        if self.waiting.is_empty() {
            if let Some(leases) = self.take(&want) {
                return Ok(Acquire::Now(leases));
            }
        }
        let waiting = self.waiting.len();
        if waiting >= self.queue && !want.is_patient {
            observe::count(Event::Busy);
            let detail = format!("{waiting} wait already, and {} may", self.queue);
            return Err(Error::new(ErrorKind::Busy, Step::Lease).detail(detail));
        }
        self.last_ticket += 1;
        let (leases, given) = oneshot::channel();
        self.waiting.push_back(Waiter { ticket: self.last_ticket, want, leases });
        Ok(Acquire::Later(self.last_ticket, given))
    }

    /// Takes somebody out of the queue, if they are still there.
    pub(super) fn give_up(&mut self, ticket: u64) {
        if let Ok(place) = self.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            self.waiting.remove(place);
            // Others may have waited only for this one.
            self.serve();
        }
    }

    /// Sets the size, and gives the numbers that need a keeper now.
    pub(super) fn resize(&mut self, size: usize) -> Vec<usize> {
        if !self.is_open {
            return Vec::new();
        }
        self.size = size;
        let new: Vec<_> = (0..size).filter(|slot| !self.slots.contains_key(slot)).collect();
        new.iter().for_each(|&slot| self.enter(slot));
        let (keep, refuse) = self.waiting.drain(..).partition(|waiter| waiter.want.containers <= size);
        self.waiting = keep;
        tell(refuse, &too_few(size));
        self.serve();
        new
    }

    pub(super) fn close(&mut self, kill_at: Option<Instant>) {
        self.is_open = false;
        self.size = 0;
        // The nearest deadline counts.
        self.kill_at = self.kill_at.into_iter().chain(kill_at).min();
        tell(std::mem::take(&mut self.waiting), &closed());
    }

    pub(super) fn kill_at(&self) -> Option<Instant> {
        self.kill_at
    }

    /// Whether no keeper is left.
    pub(super) fn is_deserted(&self) -> bool {
        self.slots.is_empty()
    }

    /// A keeper begins.
    pub(super) fn enter(&mut self, slot: usize) {
        self.slots.insert(slot, Slot::Building);
    }

    /// A keeper ends, if there are to be fewer than it counts.
    pub(super) fn leave(&mut self, slot: usize) -> bool {
        let is_surplus = self.is_surplus(slot);
        if is_surplus {
            self.slots.remove(&slot);
        }
        is_surplus
    }

    pub(super) fn is_surplus(&self, slot: usize) -> bool {
        slot >= self.size
    }

    pub(super) fn offer(&mut self, slot: usize, container: Container) {
        self.set(slot, Slot::Idle);
        self.idle.push((slot, container));
        self.serve();
    }

    /// Takes a container back that nobody has, if there are to be fewer.
    pub(super) fn withdraw(&mut self, slot: usize) -> bool {
        let Some(place) = self.idle.iter().position(|(it, _)| *it == slot).filter(|_| self.is_surplus(slot)) else {
            return false;
        };
        self.idle.remove(place);
        self.set(slot, Slot::Returning(0));
        true
    }

    /// Its lease is over, but it cannot be lent yet.
    pub(super) fn came_back(&mut self, slot: usize) {
        self.idle.retain(|(it, _)| *it != slot);
        let memory = self.slots.get(&slot).map_or(0, Slot::memory);
        self.set(slot, Slot::Returning(memory));
    }

    /// It is destroyed, and another is built.
    pub(super) fn lost(&mut self, slot: usize) {
        self.set(slot, Slot::Building);
        self.serve();
    }

    /// It could not be built. Where none can be, nobody is left waiting for one.
    pub(super) fn broke(&mut self, slot: usize, error: Error) {
        self.set(slot, Slot::Broken(error));
        if let Some(error) = self.is_hopeless() {
            tell(std::mem::take(&mut self.waiting), &error);
        }
    }

    /// Why there is no container, where every attempt at one has failed.
    fn is_hopeless(&self) -> Option<Error> {
        let mut last = None;
        for slot in self.slots.values() {
            match slot {
                Slot::Broken(error) => last = Some(error),
                _ => return None,
            }
        }
        last.cloned()
    }

    fn check(&self, want: &LeaseRequest) -> Result<()> {
        if want.containers > self.size {
            return Err(too_few(self.size));
        }
        match &self.memory {
            Some(memory) if want.all_memory() > memory.total => {
                let (all, total) = (want.all_memory(), memory.total);
                Err(Error::invalid(format!("{all} bytes of memory, in a pool that has {total}")))
            }
            _ => Ok(()),
        }
    }

    /// Serves those who wait, in their order, as far as that goes.
    fn serve(&mut self) {
        while let Some(first) = self.waiting.front() {
            let want = first.want;
            let Some(leases) = self.take(&want) else { return };
            if let Some(first) = self.waiting.pop_front() {
                // Where nobody waits any more the leases end here, and their keepers are told.
                first.leases.send(Ok(leases)).ok();
            }
        }
    }

    fn take(&mut self, want: &LeaseRequest) -> Option<Vec<Lease>> {
        // Their keepers have not noticed yet.
        self.idle.retain(|(_, container)| !container.is_dead());
        let all = want.all_memory();
        if self.idle.len() < want.containers || self.memory.as_ref().is_some_and(|memory| memory.left < all) {
            return None;
        }
        let share = self.memory.as_mut().map(|memory| {
            memory.left -= all;
            want.memory
        });
        let taken = self.idle.split_off(self.idle.len() - want.containers);
        let lend = |(slot, container): (usize, Container)| {
            self.slots.insert(slot, Slot::Lent(share.unwrap_or(0)));
            Lease::new(slot, container.with_memory(share))
        };
        Some(taken.into_iter().rev().map(lend).collect())
    }

    fn set(&mut self, slot: usize, new: Slot) {
        let kept = new.memory();
        let had = self.slots.insert(slot, new).map_or(0, |old| old.memory());
        if let Some(memory) = &mut self.memory {
            memory.left += had.saturating_sub(kept);
        }
    }
}

impl Slot {
    fn memory(&self) -> u64 {
        match self {
            Self::Lent(memory) | Self::Returning(memory) => *memory,
            Self::Building | Self::Broken(_) | Self::Idle => 0,
        }
    }
}

fn tell(waiting: VecDeque<Waiter>, error: &Error) {
    for waiter in waiting {
        // Who has gone does not mind.
        waiter.leases.send(Err(error.clone())).ok();
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, Step::Lease)
}

fn too_few(size: usize) -> Error {
    Error::invalid(format!("more containers at once than the {size} of the pool"))
}
