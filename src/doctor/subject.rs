//! What the doctor examines.

use serde::Serialize;

/// Something that containers need, or that makes them stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// A container as the builder describes it. One is built and destroyed.
    Container,
    /// The kernel's version and configuration.
    Kernel,
    /// Namespaces for a container, and the operations that the machine allows in them.
    Namespaces,
    /// A seccomp filter that confines this process.
    Seccomp,
    /// A proc file system for a container.
    Proc,
    /// User and group ids that a container shares with no other process.
    Ids,
    /// Control groups that this process may divide.
    Cgroup,
    /// Landlock, which bounds how a program may reopen the files it is given.
    Landlock,
}
