//! What a handle knows of its container, beside the mailbox of the actor.

use std::ffi::OsString;
use std::sync::Arc;

use crate::limits::HostSupport;
use crate::report::Protections;
use crate::wire::Ids;

/// What a launch found out about its container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerInfo {
    /// The root's command. Empty: none.
    pub(crate) command: Arc<[OsString]>,
    /// The program's ids on the host, if they are not the ids of this process's user.
    pub(crate) program: Option<Ids>,
    pub(crate) support: HostSupport,
    pub(crate) protections: Protections,
}
