//! Text in messages and tables.

use std::time::Duration;

/// A time in seconds.
pub fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

/// The output of a program as text.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last line that is not empty: of a Python traceback, the exception.
pub fn last_line(bytes: &[u8]) -> String {
    let text = lossy(&bytes[bytes.len().saturating_sub(4 << 10)..]);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(200).collect()
}
