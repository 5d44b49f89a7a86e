//! The descriptors that are attached to requests.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;

use super::inputs::pick;
use crate::container::fuzzing::{memory, socket};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Descriptor {
    Null,
    /// A pipe's writing end.
    Writer,
    /// The reading end of the same pipe. It is at its end once no process has the writing end.
    Reader,
    /// A file that looks like one of a group's.
    Figures,
    Program,
    Terminal,
    Socket,
    /// A device opened with `O_PATH`.
    Path,
}

/// In the order of a script's numbers.
const DESCRIPTORS: [Descriptor; 8] = [
    Descriptor::Null,
    Descriptor::Writer,
    Descriptor::Reader,
    Descriptor::Figures,
    Descriptor::Program,
    Descriptor::Terminal,
    Descriptor::Socket,
    Descriptor::Path,
];

/// One open descriptor of each kind.
pub(super) struct Descriptors([Arc<OwnedFd>; DESCRIPTORS.len()]);

impl Descriptors {
    pub(super) fn open(terminal: OwnedFd) -> Self {
        let open = |path: &str, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).expect("the file is there");
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let [terminal, reader, writer] = [terminal, reader, writer].map(Arc::new);
        Self(DESCRIPTORS.map(|descriptor| match descriptor {
            Descriptor::Null => open("/dev/null", OFlag::O_RDWR).into(),
            Descriptor::Writer => Arc::clone(&writer),
            Descriptor::Reader => Arc::clone(&reader),
            Descriptor::Figures => memory::sealed("file", b"17\nkey 18\n").expect("a memfd").into(),
            Descriptor::Program => open("/bin/true", OFlag::O_RDONLY).into(),
            Descriptor::Terminal => Arc::clone(&terminal),
            Descriptor::Socket => socket::pair().expect("a socket").0.into(),
            Descriptor::Path => open("/dev/zero", OFlag::O_PATH).into(),
        }))
    }

    pub(super) fn get(&self, descriptor: Descriptor) -> Arc<OwnedFd> {
        Arc::clone(&self.0[descriptor as usize])
    }

    /// Any of them.
    pub(super) fn any(&self, number: u8) -> Arc<OwnedFd> {
        self.get(pick(DESCRIPTORS, number))
    }

    /// One of those that the init can read and write without blocking.
    pub(super) fn nonblocking(&self, number: u8) -> Arc<OwnedFd> {
        self.get(pick([Descriptor::Null, Descriptor::Figures, Descriptor::Program, Descriptor::Path], number))
    }
}
