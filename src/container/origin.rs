//! Where a run comes from.
//!
//! Invariant: an origin keeps its container alive.

use crate::limits::LeaseLimits;

use super::info::ContainerInfo;
use super::mailbox::Mailbox;
use super::message::RunKey;

/// The parts of the handle that started a run, and the name of the run.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) mailbox: Mailbox,
    pub(crate) info: ContainerInfo,
    pub(crate) lease: LeaseLimits,
    pub(crate) slot: Option<usize>,
    pub(crate) run: RunKey,
}
