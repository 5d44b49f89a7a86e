//! Whether a script leaves a descriptor open.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::{pipe2, read};

/// Reads from a pipe whose writing end, and every copy of it, belongs to a script.
pub(super) struct LeakCheck {
    reader: OwnedFd,
    before: BTreeSet<OsString>,
}

impl LeakCheck {
    /// Also returns the writing end.
    pub(super) fn start() -> (Self, OwnedFd) {
        let before = descriptors();
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe");
        (Self { reader, before }, writer)
    }

    /// The script is over: every writing end must be closed, in this process and in each other one.
    pub(super) fn finish(self) {
        // A process that another thread has just started holds copies until it executes its
        // program.
        while poll(&mut [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)], 10_000_u16) == Err(Errno::EINTR) {}
        assert_eq!(read(&self.reader, &mut [0]), Ok(0), "a descriptor is still open");
        drop(self.reader);
        // In `cargo test`, other tests open and close descriptors at the same time.
        if cfg!(fuzzing) {
            assert_eq!(descriptors(), self.before, "a descriptor is still open");
        }
    }
}

/// The numbers of this process's descriptors.
fn descriptors() -> BTreeSet<OsString> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("a proc");
    entries.map(|entry| entry.expect("an entry").file_name()).collect()
}
