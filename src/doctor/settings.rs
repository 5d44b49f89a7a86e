//! The settings of Docker, Kubernetes and systemd that take an obstacle away.
//!
//! Invariant: a setting is listed for the one obstacle that it takes away, so the settings of all
//! findings are the least that a machine has to grant.

use super::machine::Hierarchy;
use super::obstacles::Obstacle;
use super::platform::Platform;

/// Options of `docker run`.
pub(super) fn docker_options(obstacle: &Obstacle) -> &'static [&'static str] {
    match obstacle {
        Obstacle::SeccompFilter => &["--security-opt seccomp=unconfined"],
        Obstacle::AppArmorProfile { .. } => &["--security-opt apparmor=unconfined"],
        Obstacle::CoveredProc { .. } => &["--security-opt systempaths=unconfined"],
        Obstacle::NoCgroup { .. } => &["--security-opt writable-cgroups=true"],
        Obstacle::RootWithoutSetfcap => &["--cap-add SETUID", "--cap-add SETGID", "--cap-add SETFCAP"],
        Obstacle::NoSetIds => &["--user 0:0"],
        _ => &[],
    }
}

/// Fields of a pod's `spec`.
pub(super) fn pod_fields(obstacle: &Obstacle) -> &'static [&'static str] {
    match obstacle {
        // Kubernetes allows `procMount: Unmasked` in such pods only.
        Obstacle::CoveredProc { .. } => &["hostUsers: false"],
        _ => &[],
    }
}

/// Fields of the `securityContext` of a pod's container.
pub(super) fn security_context(obstacle: &Obstacle) -> &'static [&'static str] {
    match obstacle {
        Obstacle::SeccompFilter => &["seccompProfile: { type: Unconfined }"],
        Obstacle::AppArmorProfile { .. } => &["appArmorProfile: { type: Unconfined }"],
        Obstacle::CoveredProc { .. } => &["procMount: Unmasked"],
        Obstacle::RootWithoutSetfcap => &["capabilities: { add: [SETUID, SETGID, SETFCAP] }"],
        Obstacle::NoSetIds => &["runAsUser: 0"],
        _ => &[],
    }
}

/// Settings of a unit's section `[Service]`.
pub(super) fn unit_settings(obstacle: &Obstacle) -> &'static [&'static str] {
    match obstacle {
        Obstacle::SeccompFilter => &["RestrictNamespaces=no", "SystemCallFilter="],
        Obstacle::CoveredProc { .. } => &["ProtectKernelTunables=no", "ProtectKernelLogs=no"],
        // systemd.resource-control(5): no delegation to an ordinary user on v1.
        Obstacle::NoCgroup { hierarchy: Hierarchy::V1, is_root: false, .. } => &[],
        Obstacle::NoCgroup { .. } => &["Delegate=yes", "ProtectControlGroups=no"],
        Obstacle::RootWithoutSetfcap => &["CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SETFCAP"],
        Obstacle::NoSetIds => &["AmbientCapabilities=CAP_SETUID CAP_SETGID"],
        Obstacle::UnmappedIds { .. } => &["PrivateUsers=no"],
        _ => &[],
    }
}

/// How to take an obstacle away. Names the settings of `platform`, where it has some.
pub(super) fn fix(obstacle: &Obstacle, platform: Option<Platform>) -> String {
    let settings = match platform {
        Some(Platform::Docker) => in_words("docker run ", docker_options(obstacle), " "),
        Some(Platform::Kubernetes) => {
            in_words("in the pod ", &[pod_fields(obstacle), security_context(obstacle)].concat(), ", ")
        }
        Some(Platform::Systemd) => in_words("in the unit ", unit_settings(obstacle), ", "),
        None => None,
    };
    match (obstacle, platform, settings) {
        (Obstacle::CoveredProc { .. }, _, Some(settings)) => format!("{settings}; or {WITHOUT_PROC}"),
        (Obstacle::NoCgroup { .. }, Some(Platform::Kubernetes), _) => {
            "Limits::allow_weaker, with a limit of memory for the pod".to_owned()
        }
        (_, _, settings) => settings.unwrap_or_else(|| obstacle.describe().fix),
    }
}

fn in_words(head: &str, settings: &[&str], between: &str) -> Option<String> {
    (!settings.is_empty()).then(|| head.to_owned() + &settings.join(between))
}

/// What helps a container where proc is covered, on every platform.
const WITHOUT_PROC: &str = "ContainerBuilder::mounts without Mount::proc";
