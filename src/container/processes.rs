//! The processes that the host owns for a container: the init's first stage, and pid 1.
//!
//! Invariant: dropping one kills and reaps it, in every thread. A drop that may have to wait does
//! so in a thread of its own, since the runtime may be gone by then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::Interest;

use crate::sys::process::{self, Pidfd};
use crate::sys::reactor::Async;
use crate::sys::{in_background, socket};
use crate::wire::{Broken, Decoder, Peer, Reply};

/// The init's first stage. Its drop also kills a pid 1 that it has made and not announced yet.
#[derive(Debug)]
pub(super) struct StageOne {
    pid: u32,
    /// The process, and the host's end of its socket.
    alive: Option<(Pidfd, OwnedFd)>,
}

impl StageOne {
    pub(super) fn new(pid: u32, process: Pidfd, socket: OwnedFd) -> Self {
        Self { pid, alive: Some((process, socket)) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has exited, and reaps it.
    pub(super) async fn reap(&mut self) -> io::Result<()> {
        if let Some((process, _)) = &self.alive {
            reap(process).await?;
        }
        self.alive = None;
        Ok(())
    }
}

impl Drop for StageOne {
    fn drop(&mut self) {
        let Some((process, socket)) = self.alive.take() else { return };
        let pid = self.pid;
        in_background(move || {
            // The group includes a pid 1 that has not announced itself.
            process.end_group(pid)?;
            kill_announced(&socket);
            Ok(())
        });
    }
}

/// Kills each process whose pidfd is in the messages that are left in a socket. Returns when the
/// other end of the socket is closed.
///
/// The first message of a pid 1 carries its pidfd. If there is no such message, or if it was
/// received and the pidfd so has an owner that kills the process, the other end is soon closed.
fn kill_announced(socket: &OwnedFd) {
    let mut decoder = Decoder::new(Peer::Init);
    loop {
        match socket::peek_fds(socket, true) {
            Ok(fds) => fds.into_iter().for_each(|pidfd| drop(Pid1::new(Pidfd::new(pidfd)))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(_) => {}
        }
        match decoder.receive::<Reply>(socket, true) {
            Ok(Some(_)) => {}
            // `peek_fds` has seen this message in full.
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Pid 1 of a container, as its parent sees it. Its drop kills and reaps it.
#[derive(Debug)]
pub(super) struct Pid1 {
    alive: Option<Pidfd>,
}

impl Pid1 {
    pub(super) fn new(process: Pidfd) -> Self {
        Self { alive: Some(process) }
    }

    /// The pid of the process that a pidfd names, if that process is a child of this one. The child
    /// may end at any time.
    pub(super) fn pid_of_child(&self, pidfd: impl AsFd) -> io::Result<Option<u32>> {
        let pid = Pidfd::pid_of(&pidfd)?;
        let parent = process::parent_of(pid)?;
        // The process had this pid when its parent was read, if it still has it.
        let is_child = Pidfd::pid_of(&pidfd)? == pid && self.pid()? == parent;
        Ok(is_child.then_some(pid))
    }

    /// `ESRCH` once the process is reaped.
    pub(super) fn pid(&self) -> io::Result<u32> {
        Pidfd::pid_of(self.alive.as_ref().ok_or(Errno::ESRCH)?)
    }

    /// Kills pid 1, and with it every process of its pid namespace, and waits until it is reaped.
    pub(super) async fn kill_and_reap(mut self) -> io::Result<()> {
        if let Some(process) = &self.alive {
            process.kill()?;
            reap(process).await?;
        }
        self.alive = None;
        Ok(())
    }
}

impl Drop for Pid1 {
    fn drop(&mut self) {
        if let Some(process) = self.alive.take() {
            in_background(move || {
                process.kill()?;
                process.reap()
            });
        }
    }
}

/// Waits until a process has exited, and reaps it. Dropping the future loses nothing.
async fn reap(process: &Pidfd) -> io::Result<()> {
    if process.try_reap()? {
        return Ok(());
    }
    let readable = process.as_fd().try_clone_to_owned().and_then(|fd| Async::new(fd, Interest::READABLE));
    let Ok(readable) = readable else {
        // Without a descriptor or memory to be woken with, poll: the process must not be left
        // behind.
        while !process.try_reap()? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        return Ok(());
    };
    let attempt = |_: BorrowedFd<'_>| {
        if process.try_reap()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    };
    readable.io(Interest::READABLE, attempt).await
}
