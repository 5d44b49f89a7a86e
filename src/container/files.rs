//! The files in a container, as its users see them.

mod access;
mod batch;
mod blocking;
mod budget;
mod content;
mod directories;
mod host_tree;
mod import;
mod listing;
mod metadata;
mod open_file;
mod pattern;
mod selection;
#[cfg(feature = "tar")]
mod tar;
mod tree;
mod walk;

pub use access::NewFile;
pub use listing::{DirEntry, ReadDir};
pub use metadata::{FileType, Metadata};
pub use open_file::OpenFile;
pub use selection::Links;
pub use tree::Tree;
