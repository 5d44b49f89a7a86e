//! A failed step, as it crosses the socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bytes_path;
use super::printable::PrintablePath;
use super::step::Step;

/// A failed step with the kernel's error number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) errno: i32,
    #[serde(with = "bytes_path::option")]
    pub(crate) path: Option<PathBuf>,
}

impl Failure {
    pub(crate) fn new(step: Step, error: impl Into<io::Error>) -> Self {
        Self { step, errno: error.into().raw_os_error().unwrap_or(libc::EIO), path: None }
    }

    pub(crate) fn at(step: Step, path: impl AsRef<Path>, error: impl Into<io::Error>) -> Self {
        Self { path: Some(path.as_ref().to_owned()), ..Self::new(step, error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        if let Some(path) = &self.path {
            write!(f, " {}", PrintablePath(path))?;
        }
        write!(f, ": {}", io::Error::from_raw_os_error(self.errno))
    }
}
