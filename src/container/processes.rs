//! The processes that a host owns for a container: its init's first stage, and its init.
//!
//! Invariant: dropping one ends and reaps it, whoever drops it and wherever: in a thread made for that where it may have to
//! wait, since the runtime may be gone by then.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;

use crate::sys::process::{self, Pidfd};
use crate::sys::reactor::Async;
use crate::sys::{in_background, socket};
use crate::wire::{Broken, Decoder, Peer, Reply};

/// The init's first stage. Its drop ends it, and a pid 1 that it has made and nobody knows of yet.
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

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        if let Some((process, _)) = &self.alive {
            ended(process).await?;
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
            // With it a pid 1 that has not said yet which process it is.
            process.end_group(pid)?;
            // What a pid 1 says first has its pidfd. Where there is none, or where the pidfd was received and so has an
            // owner who ends it, the other end of the socket is soon closed.
            let mut decoder = Decoder::new(Peer::Init);
            loop {
                match socket::peek_fds(&socket, true) {
                    Ok(fds) => fds.into_iter().for_each(|pidfd| drop(Init::new(Pidfd::new(pidfd)))),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    Err(_) => {}
                }
                match decoder.receive::<Reply>(&socket, true) {
                    Ok(Some(_)) => {}
                    // It was seen before, in full.
                    Err(Broken::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {}
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
        });
    }
}

/// Pid 1 of a container, as its parent sees it. Its drop ends it.
#[derive(Debug)]
pub(super) struct Init {
    alive: Option<Pidfd>,
}

impl Init {
    pub(super) fn new(process: Pidfd) -> Self {
        Self { alive: Some(process) }
    }

    /// The pid of the process that a pidfd names, if that is a child of this init. The process may end at any time.
    pub(super) fn pid_of_child(&self, pidfd: impl AsFd) -> io::Result<Option<u32>> {
        let Some(init) = &self.alive else { return Err(io::Error::from_raw_os_error(libc::ESRCH)) };
        let pid = Pidfd::pid_of(&pidfd)?;
        let parent = process::parent_of(pid)?;
        // The pid meant that process, if it still does.
        let is_child = Pidfd::pid_of(&pidfd)? == pid && Pidfd::pid_of(init)? == parent;
        Ok(is_child.then_some(pid))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn pid(&self) -> io::Result<u32> {
        Pidfd::pid_of(self.alive.as_ref().ok_or(io::ErrorKind::NotFound)?)
    }

    /// As its drop, but before this returns.
    #[cfg(any(test, fuzzing))]
    pub(super) fn end_here(&mut self) -> io::Result<()> {
        self.alive.take().map_or(Ok(()), |process| process.kill().and_then(|()| process.reap()))
    }

    /// Kills the init, and with it everything in its pid namespace, and waits until it is reaped.
    pub(super) async fn end(mut self) -> io::Result<()> {
        if let Some(process) = &self.alive {
            process.kill()?;
            ended(process).await?;
        }
        self.alive = None;
        Ok(())
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if let Some(process) = self.alive.take() {
            in_background(move || {
                process.kill()?;
                process.reap()
            });
        }
    }
}

/// Waits until a process has ended, and reaps it. Dropping the future loses nothing.
async fn ended(process: &Pidfd) -> io::Result<()> {
    if process.try_reap()? {
        return Ok(());
    }
    let end = process.as_fd().try_clone_to_owned().and_then(|fd| Async::new(fd, Interest::READABLE));
    let Ok(end) = end else {
        // No descriptor or memory to be told with: that is no reason to leave it behind.
        while !process.try_reap()? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        return Ok(());
    };
    let reap = |_: BorrowedFd<'_>| {
        if process.try_reap()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    };
    end.io(Interest::READABLE, reap).await
}
