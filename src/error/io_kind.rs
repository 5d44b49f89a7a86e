//! The kinds of `std::io` that stand for this library's kinds.

use std::io;

use super::kind::ErrorKind;

/// The kind of `std::io` that fits an error without an error of the kernel.
pub(super) fn io_kind(kind: ErrorKind) -> io::ErrorKind {
    match kind {
        ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
        ErrorKind::Unsupported => io::ErrorKind::Unsupported,
        ErrorKind::Timeout => io::ErrorKind::TimedOut,
        ErrorKind::Busy => io::ErrorKind::ResourceBusy,
        ErrorKind::Returned | ErrorKind::Closed | ErrorKind::NotRunning => io::ErrorKind::NotConnected,
        ErrorKind::Destroyed => io::ErrorKind::ConnectionAborted,
        ErrorKind::Lost => io::ErrorKind::ConnectionReset,
        ErrorKind::Build | ErrorKind::Exec | ErrorKind::File | ErrorKind::Host | ErrorKind::Image => {
            io::ErrorKind::Other
        }
    }
}
