//! Limits of a run: what a caller asks for, and what the kernel enforces.
//!
//! [`Limits`] is the request of a caller. [`Report::limits`](crate::Report::limits) lists what was
//! enforced, as one [`Held`] for each [`Limit`], with the [`Form`] that enforced it.
//!
//! Invariant: `plan.rs` alone decides the form of each limit.

mod floors;
mod held;
mod lease_limits;
mod plan;
mod request;
mod resource;
mod support;
#[cfg(test)]
mod tests;

pub(crate) use floors::{check_lease_memory, check_room_for};
pub use held::{Form, Held, Limit};
pub(crate) use lease_limits::LeaseLimits;
pub(crate) use plan::{GroupLimits, Plan};
pub use request::Limits;
pub use resource::Resource;
pub(crate) use resource::Rlimit;
pub(crate) use support::{CgroupSupport, HostSupport, NprocScope};
