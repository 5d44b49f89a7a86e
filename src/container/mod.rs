//! Containers: the handle, the builder, and the files in a container.

// Invariant: imports go one way. `builder` makes a `spec`; `launch` turns that into a `connection`;
// the `actor` serves a connection; `handle` sends a `message` through a `mailbox`. This file only
// names them.

mod actor;
mod beside;
mod builder;
mod connection;
mod death;
mod files;
#[cfg(any(test, all(fuzzing, feature = "fuzz-harness")))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
pub(crate) mod ids;
mod info;
mod launch;
mod lease;
pub(crate) mod mailbox;
mod message;
pub(crate) mod origin;
mod processes;
mod reply;
mod set_up;
mod spec;
mod start;

pub use crate::fingerprint::{FileSystem, Fingerprint};
pub use beside::Beside;
pub use builder::ContainerBuilder;
pub use files::{DirEntry, FileType, Links, Metadata, NewFile, OpenFile, ReadDir, Tree};
pub use handle::Container;
