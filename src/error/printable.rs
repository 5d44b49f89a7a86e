//! Text from programs and inits, which are not trusted, as part of a message.
//!
//! Invariant: no control character reaches a terminal or a log, except line ends where several
//! lines are expected.

use std::fmt::{self, Write as _};
use std::path::Path;

/// Shown in the place of a control character.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// The character, or the replacement character for a control character. Line ends stay.
pub(crate) fn printable(c: char) -> char {
    if c.is_control() && c != '\n' { REPLACEMENT } else { c }
}

/// Displays a path, which a program may have chosen, as one line without control characters.
pub(super) struct PrintablePath<'a>(pub(super) &'a Path);

impl fmt::Display for PrintablePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |c: char| if c.is_control() { REPLACEMENT } else { c };
        self.0.to_string_lossy().chars().map(printable).try_for_each(|c| f.write_char(c))
    }
}
