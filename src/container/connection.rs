//! A connection to an init that serves: what [`launch`](super::launch) makes and the actor takes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use crate::cgroup::RunGroup;
use crate::error::printable;
use crate::sys::reactor::Async;
use crate::wire::{Broken, Decoder, Frame, Reply};

use super::info::ContainerInfo;
use super::processes::Pid1;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Async,
    pub(super) decoder: Decoder,
    pub(super) pid1: Pid1,
    /// The reading end of the init's standard error.
    pub(super) stderr: File,
    /// The control group of the runs, if this process may make groups.
    pub(super) group: Option<RunGroup>,
    pub(super) info: ContainerInfo,
}

/// Receives the next message of an init. Returns `None` once the init has closed its end.
///
/// `more` says whether another message may be there as well. Dropping the future loses nothing.
pub(super) async fn receive(socket: &Async, decoder: &mut Decoder, more: bool) -> Result<Option<Frame<Reply>>, Broken> {
    let attempt = |fd: BorrowedFd<'_>| match decoder.receive(fd, false) {
        Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        // The init has closed its end without reading everything.
        Err(Broken::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Ok(None)),
        other => Ok(other),
    };
    socket.read(more, attempt).await?
}

/// The last 2000 bytes of an init's standard error, without control characters.
pub(super) fn stderr_tail(stderr: &mut File) -> Option<String> {
    const KEPT: usize = 2000;
    let mut bytes = Vec::new();
    // The pipe does not block, and holds 64 KiB at most.
    match stderr.take(64 << 10).read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Some(format!("({error})")),
    }
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(KEPT)..]).into_owned();
    let tail: String = text.trim().chars().map(printable).collect();
    (!tail.is_empty()).then_some(tail)
}
