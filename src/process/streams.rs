//! A command's streams, as files: the program's ends, and the host's.
//!
//! Invariant: none of them leads a program to the host's files, and what is made for a program belongs to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{fchown, pipe2};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use tokio::net::unix::pipe;

use crate::command::{Command, Stream};
use crate::error::{Error, ErrorKind, Result, Step};
use crate::pty::Pty;
use crate::sys::memory;
use crate::wire::Ids;

/// The host's ends of a run's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
    pub(super) pty: Option<Pty>,
}

impl Streams {
    pub(crate) fn has_terminal(&self) -> bool {
        self.pty.is_some()
    }
}

/// The program's ends, with the numbers that they get.
type ProgramFds = Vec<(i32, Arc<OwnedFd>)>;

/// A command's streams, ready for a run.
pub(crate) struct Opened {
    pub(crate) streams: Streams,
    pub(crate) fds: ProgramFds,
    /// Whether the program can write to an output that is not one of these streams.
    pub(crate) outputs_elsewhere: bool,
}

/// Opens what a command's streams need. `unset` is what an output is that the command says nothing about; what is made here
/// belongs to `program`.
pub(crate) fn open_streams(command: &Command, unset: &Stream, program: Option<Ids>) -> Result<Opened> {
    let failure = |error| Error::io(ErrorKind::Host, Step::MakeStream, error);
    let mut streams = Streams::default();
    let mut fds = command.fds.clone();
    let (mut terminal, mut outputs_elsewhere) = (None, false);
    for (number, stream) in command.streams.iter().enumerate() {
        let default = if number == 0 { &Stream::Null } else { unset };
        let stream = stream.as_ref().map_or(default, |stdio| &stdio.0);
        outputs_elsewhere |= number > 0 && matches!(stream, Stream::Fd(_) | Stream::Inherit | Stream::Pty);
        let fd = match stream {
            Stream::Null => continue,
            Stream::Fd(fd) => Arc::clone(fd),
            Stream::AsStdout if number == 2 => match fds.iter().find(|(number, _)| *number == 1) {
                Some((_, stdout)) => Arc::clone(stdout),
                None => continue,
            },
            Stream::AsStdout => return Err(Error::invalid("only a standard error can go where the output goes")),
            Stream::Inherit => inherited(number).map_err(failure)?.into(),
            Stream::Bytes(bytes) if number == 0 => memory::sealed("cellblock-stdin", bytes).map_err(failure)?.into(),
            Stream::Bytes(_) => return Err(Error::invalid("bytes can only be an input")),
            Stream::Piped => piped(number, program, &mut streams).map_err(failure)?.into(),
            Stream::Pty => match &terminal {
                Some(terminal) => Arc::clone(terminal),
                None => {
                    let (host, inside) = Pty::open(command.window).map_err(failure)?;
                    give(&inside, program).map_err(failure)?;
                    streams.pty = Some(host);
                    Arc::clone(terminal.insert(Arc::new(inside)))
                }
            },
        };
        fds.push((number as i32, fd));
    }
    fds.iter().try_for_each(|(_, fd)| leads_nowhere(fd))?;
    Ok(Opened { streams, fds, outputs_elsewhere })
}

/// Refuses what a program could walk the host's files from, or look again at what it only names.
fn leads_nowhere(fd: &OwnedFd) -> Result<()> {
    let failure = |error: io::Error| Error::io(ErrorKind::Host, Step::MakeStream, error);
    let flags = fcntl_getfl(fd).map_err(|error| failure(error.into()))?;
    let mode = fstat(fd).map_err(|error| failure(error.into()))?.st_mode;
    if flags.contains(OFlags::PATH) || FileType::from_raw_mode(mode) == FileType::Directory {
        return Err(Error::invalid("a directory or an O_PATH descriptor would lead a program to the host's files"));
    }
    Ok(())
}

fn inherited(number: usize) -> io::Result<OwnedFd> {
    match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

/// Makes a program's stream belong to it, or it could not open that by name.
fn give(stream: &OwnedFd, owner: Option<Ids>) -> io::Result<()> {
    match owner {
        Some(Ids { uid, gid }) => Ok(fchown(stream, Some(uid.into()), Some(gid.into()))?),
        None => Ok(()),
    }
}

/// Makes a pipe, keeps the host's end in `streams` and returns the program's, which blocks as programs expect.
fn piped(number: usize, owner: Option<Ids>, streams: &mut Streams) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (program, host) = if number == 0 { (reader, writer) } else { (writer, reader) };
    give(&program, owner)?;
    let host = File::from(host);
    match number {
        0 => streams.stdin = Some(pipe::Sender::from_file(host)?),
        1 => streams.stdout = Some(pipe::Receiver::from_file(host)?),
        _ => streams.stderr = Some(pipe::Receiver::from_file(host)?),
    }
    Ok(program)
}

/// A pipe between two programs, its reading end first. Each of them may open it by name.
pub(crate) fn pipe_of_two() -> Result<(OwnedFd, OwnedFd)> {
    let make = || {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        // One inode, which can belong to only one of them.
        fchmod(&writer, Mode::from_bits_truncate(0o666))?;
        Ok((reader, writer))
    };
    make().map_err(|error: nix::Error| Error::io(ErrorKind::Host, Step::MakeStream, error))
}
