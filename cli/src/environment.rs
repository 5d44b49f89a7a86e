//! The environment of programs.

use std::str::FromStr;

/// The `PATH` of a program, unless its caller sets another.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A variable, written as `K=V`.
#[derive(Clone, Debug)]
pub struct Variable {
    pub key: String,
    pub value: String,
}

impl Variable {
    /// The default `PATH`.
    pub fn path() -> Self {
        Self { key: "PATH".to_owned(), value: PATH.to_owned() }
    }
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("a variable is K=V, not {text:?}"))?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}
