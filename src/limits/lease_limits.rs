//! What a lease of a pool adds to the limits of its runs.
//!
//! Invariant: the limits of a command take precedence, and never allow more memory than the lease
//! has.

use crate::error::{Error, Result};

use super::held::{Form, Limit};
use super::plan::Plan;
use super::request::{DEFAULT_MEMORY, Limits};
use super::support::HostSupport;

/// The limits of a lease. The default adds nothing to the limits of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseLimits {
    /// The CPU of the runs whose command sets no CPU set.
    pub(crate) cpu: Option<u32>,
    /// The highest memory limit that a run may have, in bytes.
    pub(crate) memory: Option<u64>,
}

impl LeaseLimits {
    /// Plans a run under this lease. See [`Limits::plan`].
    pub(crate) fn plan(&self, limits: &Limits, host: &HostSupport, outputs_elsewhere: bool) -> Result<Plan> {
        if *self == Self::default() {
            return limits.plan(host, outputs_elsewhere);
        }
        let mut limits = limits.clone();
        self.cap_memory(&mut limits)?;
        match self.cpu.filter(|_| limits.cpu_set.is_empty()) {
            None => limits.plan(host, outputs_elsewhere),
            Some(cpu) if host.group_form(|groups| groups.cpu_set).is_some() => {
                limits.cpu_set = vec![cpu];
                limits.plan(host, outputs_elsewhere)
            }
            Some(cpu) => {
                let mut plan = limits.plan(host, outputs_elsewhere)?;
                plan.affinity = vec![cpu];
                plan.hold(Limit::CpuSet, 1, Form::Affinity);
                Ok(plan)
            }
        }
    }

    /// Refuses a memory limit above that of the lease, and lowers a default that is above it.
    fn cap_memory(&self, limits: &mut Limits) -> Result<()> {
        let Some(most) = self.memory else { return Ok(()) };
        match limits.memory {
            Some(asked) if asked > most => {
                Err(Error::invalid(format!("a memory limit of {asked} bytes, under a lease of {most}")))
            }
            None if most < DEFAULT_MEMORY => {
                limits.memory = Some(most);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
