//! What a lease adds to the limits of its runs.
//!
//! Invariant: what a command says for itself counts, and never comes to more memory than its lease has.

use crate::error::{Error, Result};

use super::plan::DEFAULT_MEMORY;
use super::{Form, HostSupport, Limit, Limits, Plan};

/// The terms of a lease. Without any, its runs are like those of any container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseLimits {
    /// The CPU that runs are on which do not choose for themselves.
    pub(crate) cpu: Option<u32>,
    /// The most that a run's memory may be limited to, in bytes.
    pub(crate) memory: Option<u64>,
}

impl LeaseLimits {
    /// As [`Limits::plan`], under these terms.
    pub(crate) fn plan(&self, limits: &Limits, grants: &HostSupport, outputs_elsewhere: bool) -> Result<Plan> {
        if *self == Self::default() {
            return limits.plan(grants, outputs_elsewhere);
        }
        let mut limits = limits.clone();
        if let Some(most) = self.memory {
            match limits.memory {
                Some(asked) if asked > most => {
                    return Err(Error::invalid(format!("a memory limit of {asked} bytes, under a lease of {most}")));
                }
                None if most < DEFAULT_MEMORY => limits.memory = Some(most),
                _ => {}
            }
        }
        let pinned = self.cpu.filter(|_| limits.cpu_set.is_empty());
        let is_held_by_group = grants.groups.is_some_and(|groups| groups.cpu_set);
        if let (Some(cpu), true) = (pinned, is_held_by_group) {
            limits.cpu_set = vec![cpu];
        }
        let mut plan = limits.plan(grants, outputs_elsewhere)?;
        if let (Some(cpu), false) = (pinned, is_held_by_group) {
            plan.affinity = vec![cpu];
            plan.hold(Limit::CpuSet, 1, Form::Affinity);
        }
        Ok(plan)
    }
}

impl Limits {
    /// The memory that a run with these limits may come to.
    pub(crate) fn memory_at_most(&self) -> u64 {
        self.memory.unwrap_or(DEFAULT_MEMORY)
    }
}
