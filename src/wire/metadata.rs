//! What the init says of a file.

use serde::{Deserialize, Serialize};

use super::configuration::Ids;

/// What the kernel knows of a file, a link or a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawMetadata {
    /// The type and the mode, as in stat(2).
    pub(crate) mode: u32,
    pub(crate) bytes: u64,
    pub(crate) modified_seconds: i64,
    pub(crate) modified_nanos: u32,
    /// As seen inside the container.
    pub(crate) owner: Ids,
}
