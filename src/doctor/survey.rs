//! The obstacles that a machine's files show, without trying anything.

use std::ops::Range;

use rustix::thread::CapabilitySet;

use crate::container::ids::DEFAULT_RANGE;
use crate::sys::kernel;

use super::machine::{Caller, Cgroups, Machine};
use super::obstacles::Obstacle;

/// The kinds of namespaces that a container has.
const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// Everything that can stand in a container's way here.
pub(super) fn obstacles(machine: &Machine<'_>) -> Vec<Obstacle> {
    let Some(caller) = machine.caller() else { return vec![Obstacle::NoProc] };
    let mut found = Vec::new();
    found.extend(missing_cgroup(machine, &caller));
    found.extend((!(machine.has_landlock)()).then_some(Obstacle::NoLandlock));
    found.extend(old_kernel(machine));
    let Some(mapped) = machine.mapped_ids() else {
        found.push(Obstacle::NoUserNamespaces);
        return found;
    };
    found.extend(namespace_limits(machine));
    found.extend(user_namespace_restrictions(machine, &caller));
    found.extend(mount_restriction(machine));
    found.extend(machine.proc_covers().map(|by| Obstacle::CoveredProc { by }));
    found.extend(id_restriction(&mapped, &caller));
    found
}

fn missing_cgroup(machine: &Machine<'_>, caller: &Caller) -> Option<Obstacle> {
    let Cgroups { seen, hierarchy, can_limit } = machine.cgroups();
    let (is_root, has_systemd) = (caller.uid == 0, machine.has_systemd());
    (!can_limit).then_some(Obstacle::NoCgroup { seen, hierarchy, is_root, has_systemd })
}

fn old_kernel(machine: &Machine<'_>) -> Option<Obstacle> {
    let release = machine.release();
    let is_old = kernel::version(&release).is_some_and(|version| version < (5, 12));
    is_old.then_some(Obstacle::OldKernel { release })
}

fn namespace_limits(machine: &Machine<'_>) -> impl Iterator<Item = Obstacle> {
    let is_zero = |kind: &&str| machine.sysctl(&format!("user.max_{kind}_namespaces")) == "0";
    NAMESPACES.into_iter().filter(is_zero).map(|kind| Obstacle::NamespaceLimit { kind })
}

/// Settings that refuse user namespaces to processes without CAP_SYS_ADMIN.
fn user_namespace_restrictions(machine: &Machine<'_>, caller: &Caller) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if caller.has(CapabilitySet::SYS_ADMIN) {
        return found;
    }
    if machine.sysctl("kernel.unprivileged_userns_clone") == "0" {
        found.push(Obstacle::UnprivilegedUserNamespacesOff);
    }
    // AppArmor does not apply this restriction to a process that a profile confines.
    let is_confined = !["", "unconfined"].contains(&machine.apparmor_profile().as_str());
    if !is_confined && machine.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1" {
        found.push(Obstacle::AppArmorRestriction);
    }
    found
}

/// The AppArmor profiles of Docker and Podman, which forbid mounts.
fn mount_restriction(machine: &Machine<'_>) -> Option<Obstacle> {
    let label = machine.apparmor_profile();
    let forbids = ["docker-default (enforce)", "containers-default-"].iter().any(|it| label.starts_with(it));
    forbids.then_some(Obstacle::AppArmorProfile { label })
}

/// What keeps a container from having ids of its own.
fn id_restriction([users, groups]: &[Vec<Range<u64>>; 2], caller: &Caller) -> Option<Obstacle> {
    if caller.has(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        let largest = largest_overlap(users, groups);
        let has_default = largest.start <= DEFAULT_RANGE.start.into() && largest.end >= DEFAULT_RANGE.end.into();
        // The caller keeps one id, and a container takes two.
        let is_enough = largest.end >= largest.start + 3;
        (!has_default).then(|| Obstacle::UnmappedIds { mapped: is_enough.then_some(largest) })
    } else if caller.uid == 0 && !caller.has(CapabilitySet::SETFCAP) {
        // Since Linux 5.12:
        // https://git.kernel.org/torvalds/c/db2e718a47984b9d71ed890eb2ea36ecf150de18
        Some(Obstacle::RootWithoutSetfcap)
    } else {
        Some(Obstacle::NoSetIds)
    }
}

/// The largest range that both maps have.
fn largest_overlap(users: &[Range<u64>], groups: &[Range<u64>]) -> Range<u64> {
    let pairs = users.iter().flat_map(|users| groups.iter().map(move |groups| (users, groups)));
    let common = pairs.map(|(users, groups)| users.start.max(groups.start)..users.end.min(groups.end));
    common.max_by_key(|range| range.end.saturating_sub(range.start)).unwrap_or_default()
}
