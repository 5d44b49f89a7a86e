//! Which obstacle caused a step to fail.

use crate::error::Step;

use super::machine::Machine;
use super::obstacles::Obstacle;
use super::survey::obstacles;

/// The obstacle that explains a failed step. `errno` is `None` for an init that fell silent.
pub(super) fn cause(machine: &Machine<'_>, step: Step, errno: Option<i32>) -> Option<Obstacle> {
    match errno {
        _ if step == Step::HoldLimit => find(machine, |it| matches!(it, Obstacle::NoCgroup { .. })),
        None => cause_of_silence(machine, step),
        Some(errno) => find(machine, |it| explains(it, step, errno)).or_else(|| remaining_cause(machine, step, errno)),
    }
}

/// A seccomp filter that kills the init instead of refusing a call.
fn cause_of_silence(machine: &Machine<'_>, step: Step) -> Option<Obstacle> {
    let depends_on_init = matches!(step, Step::Hello | Step::ForkPid1 | Step::Serve);
    if depends_on_init { seccomp_filter(machine) } else { None }
}

/// Whether an obstacle that the machine's files show makes `step` fail with `errno`.
fn explains(obstacle: &Obstacle, step: Step, errno: i32) -> bool {
    use Obstacle::{
        AppArmorProfile, AppArmorRestriction, CoveredProc, NamespaceLimit, NoProc, NoSetIds, NoUserNamespaces,
        OldKernel, RootWithoutSetfcap, UnmappedIds, UnprivilegedUserNamespacesOff,
    };
    let restricts_user_namespaces = matches!(obstacle, UnprivilegedUserNamespacesOff | AppArmorRestriction);
    match (step, errno) {
        _ if *obstacle == NoProc => true,
        _ if depends_on_file_rights(step) => false,
        (Step::Unshare, libc::ENOSPC | libc::EUSERS) => matches!(obstacle, NamespaceLimit { .. }),
        (Step::Unshare, libc::EINVAL) => matches!(obstacle, NoUserNamespaces),
        (Step::Unshare, libc::EPERM | libc::EACCES) => restricts_user_namespaces,
        (Step::MapIds, libc::EPERM) => matches!(obstacle, UnmappedIds { .. } | RootWithoutSetfcap | NoSetIds),
        (Step::Mount, libc::EPERM) | (Step::ForbidNamespaces, _) => matches!(obstacle, CoveredProc { .. }),
        (_, libc::EPERM | libc::EACCES) => restricts_user_namespaces || matches!(obstacle, AppArmorProfile { .. }),
        (_, libc::ENOSYS) => matches!(obstacle, OldKernel { .. }),
        _ => false,
    }
}

/// What remains as the cause when no obstacle in the machine's files explains the failure.
fn remaining_cause(machine: &Machine<'_>, step: Step, errno: i32) -> Option<Obstacle> {
    match (step, errno) {
        (Step::Unshare, libc::ENOSPC | libc::EUSERS) => Some(Obstacle::TooManyNamespaces),
        (Step::Unshare, libc::EPERM | libc::EACCES) => seccomp_filter(machine).or(Some(Obstacle::Refused)),
        (Step::MapIds, _) => None,
        _ if depends_on_file_rights(step) => None,
        (_, libc::EPERM | libc::EACCES | libc::ENOSYS) => seccomp_filter(machine),
        _ => None,
    }
}

/// Whether the caller's rights to a file, not the machine's settings, decide the step.
fn depends_on_file_rights(step: Step) -> bool {
    matches!(step, Step::ReadInitExecutable | Step::OpenBindSource | Step::Exec)
}

fn seccomp_filter(machine: &Machine<'_>) -> Option<Obstacle> {
    machine.caller()?.is_filtered.then_some(Obstacle::SeccompFilter)
}

fn find(machine: &Machine<'_>, is_cause: impl Fn(&Obstacle) -> bool) -> Option<Obstacle> {
    obstacles(machine).into_iter().find(is_cause)
}
