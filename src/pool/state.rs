//! Which caller has which container, and which callers wait.
//!
//! Invariant: `slots` has every slot with a running task, `idle` has every container that can be
//! leased, and `memory` has what the leases leave. The queue is first come, first served: the first
//! waiter is served as soon as all that it asked for is free, and no later waiter before it.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::limits::{Limits, check_lease_memory};
use crate::observe::{self, Counted, Event, Level};

use super::lease::Lease;
use super::request::LeaseRequest;
use super::slot::{Slot, SlotPhase};
use super::status::PoolStatus;

#[derive(Debug)]
pub(super) struct State {
    is_open: bool,
    /// When the pool destroys the containers that are still leased.
    kill_at: Option<Instant>,
    size: usize,
    slots: BTreeMap<usize, Slot>,
    /// The last container to come back is leased first: its memory is still in the CPU caches.
    idle: Vec<(usize, Container)>,
    queue: VecDeque<Waiter>,
    max_waiting: usize,
    last_ticket: u64,
    memory: Option<MemoryBudget>,
}

/// A caller in the queue.
#[derive(Debug)]
struct Waiter {
    /// Tickets ascend along the queue.
    ticket: u64,
    request: LeaseRequest,
    reply: oneshot::Sender<Result<Vec<Lease>>>,
    _counted: Counted,
}

#[derive(Debug)]
struct MemoryBudget {
    total: u64,
    left: u64,
}

/// The answer to a [`LeaseRequest`].
pub(super) enum Acquire {
    Now(Vec<Lease>),
    Queued { ticket: u64, reply: oneshot::Receiver<Result<Vec<Lease>>> },
}

impl State {
    pub(super) fn new(max_waiting: usize, memory: Option<u64>) -> Self {
        Self {
            is_open: true,
            kill_at: None,
            size: 1,
            slots: BTreeMap::new(),
            idle: Vec::new(),
            queue: VecDeque::new(),
            max_waiting,
            last_ticket: 0,
            memory: memory.map(|total| MemoryBudget { total, left: total }),
        }
    }

    pub(super) fn status(&self) -> PoolStatus {
        let mut status = PoolStatus {
            size: self.size,
            waiting: self.queue.len(),
            memory_left: self.memory.as_ref().map(|memory| memory.left),
            ..PoolStatus::default()
        };
        for slot in self.slots.values() {
            let count = match slot.phase {
                SlotPhase::Building => &mut status.building,
                SlotPhase::Broken(_) => &mut status.broken,
                SlotPhase::Idle => &mut status.ready,
                SlotPhase::Leased(_) => &mut status.leased,
                SlotPhase::Returning(_) => &mut status.returning,
            };
            *count += 1;
        }
        status
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The memory of a lease whose caller names none: the default of a run, or all that the pool
    /// has.
    pub(super) fn default_memory(&self) -> u64 {
        let default = Limits::new().memory_or_default();
        self.memory.as_ref().map_or(default, |memory| default.min(memory.total))
    }

    // The callers' side: the queue.

    /// Leases containers now, or puts the request into the queue.
    pub(super) fn acquire(&mut self, request: LeaseRequest) -> Result<Acquire> {
        if !self.is_open {
            return Err(closed());
        }
        self.check(&request)?;
        // A patient request waits for the next build instead.
        if let Some(error) = self.build_error().filter(|_| !request.is_patient) {
            return Err(error);
        }
        if self.queue.is_empty() {
            if let Some(leases) = self.try_lease(&request) {
                return Ok(Acquire::Now(leases));
            }
        }
        if self.queue.len() >= self.max_waiting && !request.is_patient {
            observe::count(Event::Busy);
            return Err(busy(self.queue.len(), self.max_waiting));
        }
        Ok(self.enqueue(request))
    }

    /// Takes a request out of the queue, if it is still there.
    pub(super) fn cancel(&mut self, ticket: u64) {
        if let Ok(place) = self.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            self.queue.remove(place);
            // The next waiters may want less.
            self.serve_queue();
        }
    }

    fn check(&self, request: &LeaseRequest) -> Result<()> {
        if request.containers > self.size {
            return Err(too_few(self.size));
        }
        let Some(MemoryBudget { total, .. }) = self.memory else { return Ok(()) };
        match request.total_memory() {
            wanted if wanted > total => {
                Err(Error::invalid(format!("{wanted} bytes of memory, in a pool that has {total}")))
            }
            _ => check_lease_memory(request.memory),
        }
    }

    fn enqueue(&mut self, request: LeaseRequest) -> Acquire {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let (sender, reply) = oneshot::channel();
        self.queue.push_back(Waiter { ticket, request, reply: sender, _counted: Counted::at(Level::Waiting) });
        Acquire::Queued { ticket, reply }
    }

    /// Serves the waiters in order, up to the first one that must go on waiting.
    fn serve_queue(&mut self) {
        while let Some(request) = self.queue.front().map(|waiter| waiter.request) {
            let Some(leases) = self.try_lease(&request) else { return };
            if let Some(waiter) = self.queue.pop_front() {
                // If the caller is gone the leases are dropped here, which wakes their slot tasks.
                waiter.reply.send(Ok(leases)).ok();
            }
        }
    }

    fn try_lease(&mut self, request: &LeaseRequest) -> Option<Vec<Lease>> {
        // A container may be dead before its slot task has noticed.
        self.idle.retain(|(_, container)| !container.is_dead());
        let kept = self.idle.len().checked_sub(request.containers)?;
        let memory = match &mut self.memory {
            Some(budget) => {
                budget.left = budget.left.checked_sub(request.total_memory())?;
                Some(request.memory)
            }
            None => None,
        };
        let taken = self.idle.split_off(kept);
        Some(taken.into_iter().rev().map(|(slot, container)| self.lease(slot, container, memory)).collect())
    }

    fn lease(&mut self, slot: usize, container: Container, memory: Option<u64>) -> Lease {
        self.slots.insert(slot, Slot::new(SlotPhase::Leased(memory.unwrap_or(0))));
        Lease::new(slot, container.with_memory(memory))
    }

    // The handles' side: the size and the end of the pool.

    /// Sets the size. Returns the slots that need a task now.
    pub(super) fn resize(&mut self, size: usize) -> Vec<usize> {
        if !self.is_open {
            return Vec::new();
        }
        self.size = size;
        let added: Vec<_> = (0..size).filter(|slot| !self.slots.contains_key(slot)).collect();
        for &slot in &added {
            self.add_slot(slot);
        }
        let (kept, refused) = self.queue.drain(..).partition(|waiter| waiter.request.containers <= size);
        self.queue = kept;
        refuse(refused, &too_few(size));
        self.serve_queue();
        added
    }

    /// Stops leasing, and refuses the waiters. Of several deadlines the earliest counts.
    pub(super) fn close(&mut self, kill_at: Option<Instant>) {
        self.is_open = false;
        self.size = 0;
        self.kill_at = self.kill_at.into_iter().chain(kill_at).min();
        refuse(std::mem::take(&mut self.queue), &closed());
    }

    pub(super) fn kill_at(&self) -> Option<Instant> {
        self.kill_at
    }

    /// Whether a slot task is left.
    pub(super) fn has_slots(&self) -> bool {
        !self.slots.is_empty()
    }

    // The slot tasks' side: the phases of a slot.

    pub(super) fn add_slot(&mut self, slot: usize) {
        self.slots.insert(slot, Slot::new(SlotPhase::Building));
    }

    /// Whether the pool has become too small for this slot.
    pub(super) fn is_surplus(&self, slot: usize) -> bool {
        slot >= self.size
    }

    /// Removes a slot that is surplus. Returns whether it was.
    pub(super) fn remove_if_surplus(&mut self, slot: usize) -> bool {
        let is_surplus = self.is_surplus(slot);
        if is_surplus {
            self.slots.remove(&slot);
        }
        is_surplus
    }

    /// Takes the container of a surplus slot back, if it is idle. Returns whether it was.
    pub(super) fn evict_if_surplus(&mut self, slot: usize) -> bool {
        if !self.is_surplus(slot) {
            return false;
        }
        let Some(place) = self.idle.iter().position(|(it, _)| *it == slot) else { return false };
        self.idle.remove(place);
        self.set_phase(slot, SlotPhase::Returning(0));
        true
    }

    /// Makes a container available for leases.
    pub(super) fn offer(&mut self, slot: usize, container: Container) {
        self.set_phase(slot, SlotPhase::Idle);
        self.idle.push((slot, container));
        self.serve_queue();
    }

    /// The lease is over or the container is dead. Its memory stays reserved until it is reset or
    /// destroyed.
    pub(super) fn start_return(&mut self, slot: usize) {
        self.idle.retain(|(it, _)| *it != slot);
        let memory = self.slots.get(&slot).map_or(0, Slot::memory);
        self.set_phase(slot, SlotPhase::Returning(memory));
    }

    /// The container is destroyed, and the slot task builds another one.
    pub(super) fn start_rebuild(&mut self, slot: usize) {
        self.set_phase(slot, SlotPhase::Building);
        self.serve_queue();
    }

    /// A build failed. If every slot has failed, the waiters get the error.
    pub(super) fn record_build_error(&mut self, slot: usize, error: Error) {
        self.set_phase(slot, SlotPhase::Broken(error));
        if let Some(error) = self.build_error() {
            refuse(std::mem::take(&mut self.queue), &error);
        }
    }

    /// Why no container exists. `None` unless the last build of every slot failed.
    fn build_error(&self) -> Option<Error> {
        let mut last = None;
        for slot in self.slots.values() {
            match &slot.phase {
                SlotPhase::Broken(error) => last = Some(error),
                _ => return None,
            }
        }
        last.cloned()
    }

    /// Sets the phase of a slot, and frees the memory that only the old phase had.
    fn set_phase(&mut self, slot: usize, phase: SlotPhase) {
        let new = Slot::new(phase);
        let kept = new.memory();
        let had = self.slots.insert(slot, new).map_or(0, |old| old.memory());
        if let Some(memory) = &mut self.memory {
            memory.left += had.saturating_sub(kept);
        }
    }
}

fn refuse(waiters: VecDeque<Waiter>, error: &Error) {
    for waiter in waiters {
        // The caller may be gone.
        waiter.reply.send(Err(error.clone())).ok();
    }
}

fn busy(waiting: usize, max_waiting: usize) -> Error {
    Error::new(ErrorKind::Busy, Step::Lease).detail(format!("{waiting} wait already, and {max_waiting} may"))
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, Step::Lease)
}

fn too_few(size: usize) -> Error {
    Error::invalid(format!("more containers at once than the {size} of the pool"))
}
