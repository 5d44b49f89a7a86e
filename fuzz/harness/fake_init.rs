//! An init that a test plays: the other end of a container's socket.
//!
//! What the init answers is up to the test. Invariant: the host keeps to the protocol's form, or
//! receiving panics.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;

use crate::container::Container;
use crate::container::fuzzing::{
    Async, Broken, Connection, ContainerInfo, Datagram, Decoder, Filter, Frame, HostSupport, NprocScope, Peer, Pid1,
    Reply, Request, clone, encode, memory, socket,
};
use crate::report::Protections;

/// Long enough for every answer of a test that does not look at the time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct FakeInit {
    socket: OwnedFd,
    decoder: Decoder,
}

impl FakeInit {
    /// A container, and the init that serves it. The host waits for a reply for as long as
    /// `patience`.
    pub(crate) fn start(patience: Duration) -> (Container, Self) {
        let (host, init) = socket::pair().expect("a socket");
        (container_on(host, patience), Self::on(init))
    }

    pub(crate) fn on(socket: OwnedFd) -> Self {
        Self { socket, decoder: Decoder::new(Peer::Host) }
    }

    /// The next request. `None` once the host has closed the socket. Without `wait`, `WouldBlock`
    /// where there is no request.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<Option<Frame<Request>>> {
        match self.decoder.receive(&self.socket, wait) {
            // The host closed with a reply unread.
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(Broken::Io(error)) => Err(error),
            Err(broken) => panic!("the host sent {broken}"),
            Ok(request) => Ok(request),
        }
    }

    /// The next request, which must come.
    pub(crate) fn next(&mut self) -> Frame<Request> {
        self.receive(true).expect("a request").expect("the host still listens")
    }

    /// Sends a reply, which must go out.
    pub(crate) fn answer(&self, id: u64, reply: &Reply) {
        self.answer_with(id, reply, Vec::new()).expect("the host still listens");
    }

    pub(crate) fn answer_with(&self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> io::Result<()> {
        encode(id, reply, fds)?.iter().try_for_each(|datagram| datagram.send(&self.socket, true))
    }

    /// Sends one datagram, whatever is in it.
    pub(crate) fn send(&self, bytes: Vec<u8>, fds: Vec<Arc<OwnedFd>>, wait: bool) -> io::Result<()> {
        Datagram { bytes, fds, begins: None }.send(&self.socket, wait)
    }
}

/// A container whose init is at the other end of this socket.
pub(crate) fn container_on(socket: OwnedFd, patience: Duration) -> Container {
    let connection = connection(socket).expect("a process in the place of pid 1");
    let (container, actor) = Container::serve(connection, patience, 4);
    tokio::spawn(actor);
    container
}

/// A connection to an init at the other end of this socket. Its pid 1 is a process that sleeps.
pub(in crate::container) fn connection(socket: OwnedFd) -> io::Result<Connection> {
    let null = File::open("/dev/null")?;
    let sleep = memory::executable(Path::new("/bin/sleep"))?;
    let stdio = [null.as_fd(); 3];
    let clone::Spawned { pidfd, .. } = clone::spawn(sleep.as_fd(), &[c"sleep", c"600"], stdio, None)?;
    let support = HostSupport {
        groups: None,
        nproc_scope: NprocScope::User,
        cpus: 1,
        configured_cpus: 1,
        hard_stack: u64::MAX,
        hard_open_files: u64::MAX,
    };
    let protections = Protections::new(Filter::Off, false, false);
    Ok(Connection {
        socket: Async::new(socket, Interest::READABLE | Interest::WRITABLE)?,
        decoder: Decoder::new(Peer::Init),
        pid1: Pid1::new(pidfd),
        stderr: null,
        group: None,
        info: ContainerInfo { command: Arc::default(), program: None, support, protections },
    })
}

impl AsFd for FakeInit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
