//! The descriptors that a hostile init attaches to its replies.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::container::fuzzing::{Pidfd, memory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descriptor {
    Memfd,
    File,
    /// A pipe, by which the harness sees whether every copy is closed.
    LeakCheck,
    Directory,
    /// A file opened with `O_PATH`.
    Path,
    /// A pidfd of this process, which is no child of the init.
    Pidfd,
    /// The init's own end of the socket.
    Socket,
    Device,
}

/// In the order of a script's numbers.
pub(super) const DESCRIPTORS: [Descriptor; 8] = [
    Descriptor::Memfd,
    Descriptor::File,
    Descriptor::LeakCheck,
    Descriptor::Directory,
    Descriptor::Path,
    Descriptor::Pidfd,
    Descriptor::Socket,
    Descriptor::Device,
];

impl Descriptor {
    pub(super) fn is_regular_file(self) -> bool {
        matches!(self, Self::Memfd | Self::File)
    }
}

/// One open descriptor of each kind.
pub(super) struct Descriptors([Arc<OwnedFd>; DESCRIPTORS.len()]);

impl Descriptors {
    pub(super) fn open(socket: impl AsFd, leak_check: OwnedFd) -> Self {
        let open = |path: &str, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).expect("the file is there");
        let leak_check = Arc::new(leak_check);
        Self(DESCRIPTORS.map(|descriptor| match descriptor {
            Descriptor::Memfd => memory::sealed("file", b"content").expect("a memfd").into(),
            Descriptor::File => open("/proc/self/exe", OFlag::O_RDONLY).into(),
            Descriptor::LeakCheck => Arc::clone(&leak_check),
            Descriptor::Directory => open("/", OFlag::O_DIRECTORY).into(),
            Descriptor::Path => open("/proc/self/exe", OFlag::O_PATH).into(),
            Descriptor::Pidfd => Pidfd::of_self().expect("a pidfd").into(),
            Descriptor::Socket => socket.as_fd().try_clone_to_owned().expect("a descriptor").into(),
            Descriptor::Device => open("/dev/null", OFlag::O_RDWR).into(),
        }))
    }

    pub(super) fn get(&self, descriptor: Descriptor) -> Arc<OwnedFd> {
        Arc::clone(&self.0[descriptor as usize])
    }
}
