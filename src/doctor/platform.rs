//! What starts services.

/// What starts a service, and decides what the service may do.
///
/// [`Diagnosis::snippet`](crate::doctor::Diagnosis::snippet) writes its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Platform {
    /// Docker, or Podman, which takes the same options.
    Docker,
    /// A pod of Kubernetes.
    Kubernetes,
    /// A unit of systemd.
    Systemd,
}
