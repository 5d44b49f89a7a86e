//! What a slot of a pool is doing.
//!
//! Invariant: each slot is counted by exactly one gauge, that of its phase.

use crate::error::Error;
use crate::observe::{Counted, Level};

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) phase: SlotPhase,
    _counted: Counted,
}

/// The numbers are bytes of memory that the slot's lease has.
#[derive(Debug)]
pub(super) enum SlotPhase {
    Building,
    Broken(Error),
    Idle,
    Leased(u64),
    Returning(u64),
}

impl Slot {
    pub(super) fn new(phase: SlotPhase) -> Self {
        let level = match phase {
            SlotPhase::Building => Level::Building,
            SlotPhase::Broken(_) => Level::Broken,
            SlotPhase::Idle => Level::Ready,
            SlotPhase::Leased(_) => Level::Leased,
            SlotPhase::Returning(_) => Level::Returning,
        };
        Self { phase, _counted: Counted::at(level) }
    }

    pub(super) fn memory(&self) -> u64 {
        match self.phase {
            SlotPhase::Leased(memory) | SlotPhase::Returning(memory) => memory,
            SlotPhase::Building | SlotPhase::Broken(_) | SlotPhase::Idle => 0,
        }
    }
}
