//! The environment of a command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};
use crate::wire::{DefaultVariables, Strings};

use super::text::without_nul;

/// What a command sets and removes of its environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    /// Each variable once. `None`: the program does not get the container's default.
    variables: Vec<(OsString, Option<OsString>)>,
    defaults: Defaults,
}

/// Whether the program gets those default variables of the container that the command does not
/// name.
#[derive(Clone, Copy, Debug, Default)]
enum Defaults {
    #[default]
    Kept,
    Cleared,
}

impl Environment {
    pub(super) fn set(&mut self, key: &OsStr, value: Option<OsString>) {
        self.variables.retain(|(it, _)| it != key);
        self.variables.push((key.into(), value));
    }

    pub(super) fn clear(&mut self) {
        *self = Self { variables: Vec::new(), defaults: Defaults::Cleared };
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, Option<&OsStr>)> {
        self.variables.iter().map(|(key, value)| (key.as_os_str(), value.as_deref()))
    }

    /// The variables that are set, and which of the container's defaults may be added.
    pub(super) fn to_wire(&self) -> Result<(Strings, DefaultVariables)> {
        let (mut set, mut removed) = (Strings::default(), Strings::default());
        for (key, value) in self.iter() {
            if key.is_empty() || key.as_bytes().contains(&b'=') {
                return Err(Error::invalid(format!("{key:?} cannot be the name of an environment variable")));
            }
            match value {
                Some(value) => set.push(&[without_nul(key)?, b"=", without_nul(value)?]),
                None => removed.push(&[without_nul(key)?]),
            }
        }
        Ok(match self.defaults {
            Defaults::Kept => (set, DefaultVariables::AllBut(removed)),
            Defaults::Cleared => (set, DefaultVariables::None),
        })
    }
}
