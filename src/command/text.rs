//! Strings for the kernel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};

/// The bytes of a string, which must have no NUL.
pub(super) fn without_nul(string: &OsStr) -> Result<&[u8]> {
    let bytes = string.as_bytes();
    if bytes.contains(&0) {
        return Err(Error::invalid(format!("{string:?} contains a NUL byte")));
    }
    Ok(bytes)
}
