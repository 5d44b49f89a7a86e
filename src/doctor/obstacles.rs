//! The table of obstacles: what each one is, what it costs and how to fix it.
//!
//! Invariant: [`Obstacle`] is the only list of what can stand in a container's way.
//!
//! Sources: namespaces(7), user_namespaces(7), unshare(2), cgroups(7) and subuid(5); for a covered
//! proc, `mnt_already_visible` in the kernel's `fs/namespace.c`; for AppArmor,
//! <https://ubuntu.com/blog/ubuntu-23-10-restricted-unprivileged-user-namespaces>; for Docker's
//! options, <https://docs.docker.com/reference/cli/docker/container/run/#security-opt>. Podman
//! takes the same options, except that its form of `writable-cgroups=true` is
//! `unmask=/sys/fs/cgroup` (<https://github.com/moby/moby/issues/46763>).

use std::ops::Range;

use super::machine::Hierarchy;
use super::subject::Subject;

/// Something that stands in a container's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// `/proc` cannot be read.
    NoProc,
    /// The kernel is older than Linux 5.12.
    OldKernel { release: String },
    /// The kernel was built without user namespaces.
    NoUserNamespaces,
    /// The sysctl `user.max_KIND_namespaces` is 0.
    NamespaceLimit { kind: &'static str },
    /// The sysctl `kernel.unprivileged_userns_clone` is 0.
    UnprivilegedUserNamespacesOff,
    /// The sysctl `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmorRestriction,
    /// A limit on namespaces or on their nesting is reached.
    TooManyNamespaces,
    /// An AppArmor profile that forbids mounts confines this process.
    AppArmorProfile { label: String },
    /// A seccomp filter confines this process.
    SeccompFilter,
    /// The kernel refuses a user namespace for a reason that no file shows.
    Refused,
    /// A mount covers part of every visible proc.
    CoveredProc { by: Vec<String> },
    /// User 0 lacks CAP_SETFCAP.
    RootWithoutSetfcap,
    /// This process's user namespace does not map the default ids.
    UnmappedIds { mapped: Option<Range<u64>> },
    /// This process lacks CAP_SETUID or CAP_SETGID.
    NoSetIds,
    /// This process cannot make control groups.
    NoCgroup { seen: String, hierarchy: Hierarchy, is_root: bool, has_systemd: bool },
    /// The kernel lacks Landlock or its control of truncation.
    NoLandlock,
}

/// What the doctor says about an obstacle.
pub(super) struct Description {
    pub(super) subject: Subject,
    pub(super) seen: String,
    pub(super) costs: String,
    pub(super) fix: String,
}

impl Obstacle {
    pub(super) fn describe(&self) -> Description {
        use Subject::{Cgroup, Ids, Kernel, Landlock, Namespaces, Proc, Seccomp};
        const NO_CONTAINER: &str = "no container can be built";
        match self {
            Self::NoProc => describe(Proc, "/proc cannot be read", NO_CONTAINER, "mount -t proc proc /proc"),
            Self::OldKernel { release } => {
                describe(Kernel, format!("Linux {release} is too old"), NO_CONTAINER, "boot Linux 5.12 or later")
            }
            Self::NoUserNamespaces => describe(
                Kernel,
                "the kernel has no user namespaces",
                NO_CONTAINER,
                "boot a kernel that is built with CONFIG_USER_NS",
            ),
            Self::NamespaceLimit { kind } => describe(
                Namespaces,
                format!("user.max_{kind}_namespaces is 0"),
                NO_CONTAINER,
                format!("sysctl -w user.max_{kind}_namespaces=15000"),
            ),
            Self::UnprivilegedUserNamespacesOff => describe(
                Namespaces,
                "kernel.unprivileged_userns_clone is 0",
                NO_CONTAINER,
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            Self::AppArmorRestriction => describe(
                Namespaces,
                "kernel.apparmor_restrict_unprivileged_userns is 1",
                NO_CONTAINER,
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for PROGRAM with \
                 flags=(unconfined) and the rule `userns,`",
            ),
            Self::TooManyNamespaces => describe(
                Namespaces,
                "too many namespaces exist, or they are nested too deep (the kernel allows 32 levels)",
                NO_CONTAINER,
                "sysctl -w user.max_user_namespaces=100000, and the same for mnt, pid, net, ipc, uts and cgroup, here and \
                 in the parent user namespaces",
            ),
            Self::AppArmorProfile { label } => describe(
                Namespaces,
                format!("the AppArmor profile {label} confines this process and forbids mounts"),
                NO_CONTAINER,
                "docker run --security-opt apparmor=unconfined",
            ),
            Self::SeccompFilter => describe(
                Seccomp,
                "a seccomp filter confines this process",
                NO_CONTAINER,
                "docker run --security-opt seccomp=unconfined; in a systemd unit RestrictNamespaces=no and no \
                 SystemCallFilter",
            ),
            Self::Refused => describe(
                Namespaces,
                "this process is in a chroot, or has a user id that its own user namespace does not map, or a security \
                 module refuses",
                NO_CONTAINER,
                "start PROGRAM outside the chroot, or enter the tree with pivot_root(8); use unshare --map-current-user \
                 instead of unshare --user",
            ),
            Self::CoveredProc { by } => describe(
                Proc,
                format!(
                    "every visible proc is partly covered, so the kernel refuses to mount another; covered: {}",
                    by.join(" ")
                ),
                "no container can be built with a Mount::proc, which is one of the defaults",
                "docker run --security-opt systempaths=unconfined; in a systemd unit ProtectKernelTunables=no and \
                 ProtectKernelLogs=no; or ContainerBuilder::mounts without Mount::proc",
            ),
            Self::RootWithoutSetfcap => describe(
                Ids,
                "user 0 has no CAP_SETFCAP, without which the kernel does not let it be mapped",
                NO_CONTAINER,
                "docker run --cap-add SETFCAP, with SETUID and SETGID for separate ids; or start PROGRAM as another user",
            ),
            Self::UnmappedIds { mapped: Some(Range { start, end }) } => describe(
                Ids,
                format!("the user namespace of this process maps the ids {start} to {}, not the default ones", end - 1),
                "no container can be built without ContainerBuilder::id_range",
                format!("ContainerBuilder::id_range({}..{end})", start + 1),
            ),
            Self::UnmappedIds { mapped: None } => describe(
                Ids,
                "the user namespace of this process maps no ids but its own",
                NO_CONTAINER,
                "setpriv --bounding-set=-setuid,-setgid PROGRAM, to share that id; or, with subordinate ids, unshare \
                 --map-root-user --map-auto PROGRAM, and ContainerBuilder::id_range(1..65535)",
            ),
            Self::NoSetIds => describe(
                Ids,
                "this process lacks CAP_SETUID and CAP_SETGID, and may map only its own ids",
                "ContainerBuilder::id_range is refused. The program shares its user id with the init: only the filter \
                 keeps the program from limiting and slowing the init",
                "start PROGRAM as root, or with AmbientCapabilities=CAP_SETUID CAP_SETGID in its systemd unit; or, with \
                 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and newuidmap), \
                 unshare --map-root-user --map-auto PROGRAM, and ContainerBuilder::id_range(1..65535)",
            ),
            Self::NoCgroup { seen, hierarchy, is_root, has_systemd } => describe(
                Cgroup,
                seen,
                "limits on memory, processes and CPU time are held in weaker forms, and refused unless \
                 Limits::allow_weaker accepts these forms",
                cgroup_fix(*hierarchy, *is_root, *has_systemd),
            ),
            Self::NoLandlock => describe(
                Landlock,
                "the kernel has no Landlock, or a version that does not control truncation",
                "a program can reopen a host file that it is given, for everything that the file's mode allows the \
                 program's user",
                "boot Linux 6.2 or later with CONFIG_SECURITY_LANDLOCK, and with landlock in the kernel parameter lsm= if \
                 that is set; or give programs pipes",
            ),
        }
    }

    /// Whether it keeps containers from being built.
    pub(super) fn is_fatal(&self) -> bool {
        !matches!(self, Self::NoSetIds | Self::NoCgroup { .. } | Self::NoLandlock)
    }
}

/// How a process gets control groups of its own, where no platform has a setting for it.
fn cgroup_fix(hierarchy: Hierarchy, is_root: bool, has_systemd: bool) -> &'static str {
    match (hierarchy, is_root) {
        (Hierarchy::None, _) => "mount -t cgroup2 none /sys/fs/cgroup",
        (Hierarchy::V2, true) if has_systemd => "systemd-run --scope -p Delegate=yes PROGRAM",
        (Hierarchy::V2, false) if has_systemd => {
            "systemd-run --user --scope -p Delegate=yes PROGRAM; or start PROGRAM as root"
        }
        (Hierarchy::V2, true) => "mount -o remount,rw /sys/fs/cgroup, where it is read-only; keep CAP_DAC_OVERRIDE",
        (Hierarchy::V2, false) => {
            "as root mkdir /sys/fs/cgroup/judge; chown -R USER /sys/fs/cgroup/judge; echo $$ \
             >/sys/fs/cgroup/judge/cgroup.procs, and start PROGRAM as USER from that shell; or start PROGRAM as root"
        }
        (Hierarchy::V1, true) => {
            "for it in memory pids cpuacct; do mount -o remount,rw /sys/fs/cgroup/$it; done, where they are \
             read-only; keep CAP_DAC_OVERRIDE"
        }
        (Hierarchy::V1, false) => {
            "as root for it in memory pids cpuacct; do mkdir /sys/fs/cgroup/$it/judge; chown USER \
             /sys/fs/cgroup/$it/judge; echo $$ >/sys/fs/cgroup/$it/judge/cgroup.procs; done, and start PROGRAM as USER \
             from that shell; or start PROGRAM as root"
        }
    }
}

fn describe(
    subject: Subject,
    seen: impl Into<String>,
    costs: impl Into<String>,
    fix: impl Into<String>,
) -> Description {
    Description { subject, seen: seen.into(), costs: costs.into(), fix: fix.into() }
}
