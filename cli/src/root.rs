//! The root of a container, as a command line or a request names it.

use std::path::Path;

use cellblock::Root;

/// The root that a path names: a directory with a whole root file system.
pub fn named(path: &Path) -> Root {
    Root::directory(path)
}
