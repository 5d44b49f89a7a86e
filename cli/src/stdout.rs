//! Text on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes text to standard output. It is no error if the reader has closed the pipe, as `head`
/// does.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
