//! The paths of an archive's entries.

use crate::error::{Error, ErrorKind, Result, Step};

use super::caps::UnpackCaps;
use super::meter::exceeds;

/// The longest name that Linux file systems take.
const MAX_NAME: usize = 255;

/// What the last name of a path says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Plain,
    /// Removes this path from the layers below.
    Whiteout(Vec<u8>),
    /// Hides what the layers below have in this directory.
    Opaque(Vec<u8>),
    /// A file of the tool that made the layer.
    Ignored,
}

/// A path relative to the image's root, with single slashes and without `.`. A first slash is the
/// image's root. The root itself is empty.
pub(super) fn checked(path: &[u8], caps: UnpackCaps) -> Result<Vec<u8>> {
    if path.len() > caps.path {
        return Err(exceeds("bytes in a path", caps.path as u64));
    }
    let mut checked = Vec::with_capacity(path.len());
    let mut depth = 0;
    for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return Err(refused("its path has a `..`"));
        }
        if name.len() > MAX_NAME {
            return Err(exceeds("bytes in a name", MAX_NAME as u64));
        }
        if name.contains(&0) {
            return Err(refused("its path has a NUL byte"));
        }
        depth += 1;
        if !checked.is_empty() {
            checked.push(b'/');
        }
        checked.extend(name);
    }
    if depth > caps.depth {
        return Err(exceeds("names in a path", caps.depth as u64));
    }
    Ok(checked)
}

/// What the last name of a checked path says.
pub(super) fn name(path: &[u8]) -> Result<Name> {
    let (directory, name) = super::tree::split(path);
    let Some(hidden) = name.strip_prefix(b".wh.") else { return Ok(Name::Plain) };
    match hidden {
        b".wh..opq" => Ok(Name::Opaque(directory.to_vec())),
        b"" | b"." | b".." => Err(refused("a whiteout without a name")),
        // `.wh..wh.plnk` and the like, of aufs.
        hidden if hidden.starts_with(b".wh.") => Ok(Name::Ignored),
        hidden if directory.is_empty() => Ok(Name::Whiteout(hidden.to_vec())),
        hidden => Ok(Name::Whiteout([directory, b"/", hidden].concat())),
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Image, Step::Unpack).detail(why)
}
