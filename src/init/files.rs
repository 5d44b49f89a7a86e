//! Files of a container, opened, made, described and deleted for the host.
//!
//! Invariant: programs control these paths. Each path is resolved beneath the container's root,
//! without following links or magic links and without blocking. A request does a bounded number of
//! steps: the host lists directories and walks trees.

mod directories;
mod inspect;
mod names;
mod open;
mod resolve;

// For the fuzz harnesses.
#[cfg(any(test, all(fuzzing, feature = "fuzz-harness")))]
pub(crate) use {directories::make_directory, open::open};

pub(super) use directories::make_all;
pub(crate) use directories::make_dirs;
pub(crate) use inspect::{metadata, open_directory, read_link};
pub(crate) use names::{delete, rename, symlink};
pub(super) use names::{delete_all, link_all};
pub(super) use open::{open_all, read};
pub(crate) use resolve::ROOT;
pub(super) use resolve::resolve;
