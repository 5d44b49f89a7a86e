//! Text in messages and tables.
//!
//! Invariant: text of a program or of a submission reaches neither a terminal nor a page with
//! control characters, or with characters that change the direction of the text around them.

use std::time::Duration;

/// A time in seconds.
pub fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

/// The output of a program as text.
pub fn lossy(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

/// The text with the replacement character for what is not printable. Tabs and line ends stay.
pub fn printable(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(|c| if c == '\n' { c } else { printable_char(c) }).collect()
}

/// The text as one line.
pub fn printable_line(text: &str) -> String {
    text.chars().map(printable_char).collect()
}

fn printable_char(c: char) -> char {
    let changes_direction = matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c != '\t' && (c.is_control() || changes_direction) { char::REPLACEMENT_CHARACTER } else { c }
}

/// The last line that is not empty: of a Python traceback, the exception.
pub fn last_line(bytes: &[u8]) -> String {
    let text = lossy(&bytes[bytes.len().saturating_sub(4 << 10)..]);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(200).collect()
}
