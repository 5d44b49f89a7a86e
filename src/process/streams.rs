//! A command's streams, as files: the program's ends, and the host's.
//!
//! Invariant: no stream leads a program to the host's files. A pipe or terminal that is made for a
//! program belongs to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{fchown, pipe2};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use tokio::net::unix::pipe;

use crate::command::{Command, Stream, Window};
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::pty::Pty;
use crate::sys::memory;
use crate::wire::Ids;

/// A command's streams, ready for a run.
pub(crate) struct CommandStreams {
    pub(crate) host: HostStreams,
    pub(crate) program: ProgramFds,
}

/// The host's ends of a run's streams.
#[derive(Debug, Default)]
pub(crate) struct HostStreams {
    pub(super) stdin: Option<pipe::Sender>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
    pub(super) pty: Option<Pty>,
}

impl HostStreams {
    pub(crate) fn has_terminal(&self) -> bool {
        self.pty.is_some()
    }
}

/// The program's ends.
pub(crate) struct ProgramFds {
    /// Each descriptor with its number in the program.
    pub(crate) fds: Vec<(i32, Arc<OwnedFd>)>,
    /// The file to execute, if the command has it as a descriptor.
    pub(crate) executable: Option<Arc<OwnedFd>>,
    /// Whether the program can write to an output that is not one of [`HostStreams`]'s pipes.
    pub(crate) writes_elsewhere: bool,
}

/// What becomes of the caller's sealed memfds. Their content cannot change, but their owner can
/// change the mode and the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealedInputs {
    /// The program gets the memfd itself: the memfd does not belong to the program.
    Shared,
    /// The program gets a copy of its own, so that nothing is left for the next run.
    Copied,
}

impl SealedInputs {
    fn protect(self, fd: &mut Arc<OwnedFd>) -> Result<()> {
        if self == Self::Copied && memory::is_sealed(&**fd) {
            *fd = made(memory::copy_of_sealed(&**fd))?;
        }
        Ok(())
    }
}

/// Opens the streams of a command. `unset` is the default for an output. Pipes and terminals that
/// are made here belong to `program`. `inputs` says what becomes of sealed memfds.
pub(crate) fn open_streams(
    command: &Command,
    unset: &Stream,
    program: Option<Ids>,
    inputs: SealedInputs,
) -> Result<CommandStreams> {
    let mut host = HostStreams::default();
    let mut fds = command.fds.clone();
    fds.iter_mut().try_for_each(|(_, fd)| inputs.protect(fd))?;
    let mut executable = command.executable().cloned();
    executable.iter_mut().try_for_each(|fd| inputs.protect(fd))?;
    let mut terminal = None;
    let mut writes_elsewhere = false;
    for (number, stream) in command.streams.iter().enumerate() {
        let default = if number == 0 { &Stream::Null } else { unset };
        let stream = stream.as_ref().map_or(default, |stdio| &stdio.0);
        writes_elsewhere |= number > 0 && matches!(stream, Stream::Fd(_) | Stream::Inherit | Stream::Pty);
        let fd = match stream {
            Stream::Null => continue,
            Stream::Fd(fd) => {
                let mut fd = Arc::clone(fd);
                inputs.protect(&mut fd)?;
                fd
            }
            Stream::AsStdout if number == 2 => match fds.iter().find(|(number, _)| *number == 1) {
                Some((_, stdout)) => Arc::clone(stdout),
                None => continue,
            },
            Stream::AsStdout => return Err(Error::invalid("only a standard error can go where the output goes")),
            Stream::Inherit => made(inherited(number))?,
            Stream::Bytes(bytes) if number == 0 => made(memory::sealed("cellblock-stdin", bytes))?,
            Stream::Bytes(_) => return Err(Error::invalid("bytes can only be an input")),
            Stream::Piped => made(piped(number, program, &mut host))?,
            Stream::Pty => match &terminal {
                Some(terminal) => Arc::clone(terminal),
                None => Arc::clone(terminal.insert(made(open_terminal(command.window, program, &mut host))?)),
            },
        };
        fds.push((number as i32, fd));
    }
    fds.iter().try_for_each(|(_, fd)| refuse_path_to_host(fd))?;
    Ok(CommandStreams { host, program: ProgramFds { fds, executable, writes_elsewhere } })
}

fn made(stream: io::Result<OwnedFd>) -> Result<Arc<OwnedFd>> {
    stream.map(Arc::new).fail(ErrorKind::Host, Step::MakeStream)
}

/// Refuses a directory, from which a program could walk the host's files, and an `O_PATH`
/// descriptor, which a program could open again.
fn refuse_path_to_host(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl_getfl(fd).fail(ErrorKind::Host, Step::MakeStream)?;
    let mode = fstat(fd).fail(ErrorKind::Host, Step::MakeStream)?.st_mode;
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

/// Makes a terminal, keeps its host end in `host` and returns the program's.
fn open_terminal(window: Window, owner: Option<Ids>, host: &mut HostStreams) -> io::Result<OwnedFd> {
    let (pty, program) = Pty::open(window)?;
    set_owner(&program, owner)?;
    host.pty = Some(pty);
    Ok(program)
}

/// Makes a pipe, keeps the host's end in `host` and returns the program's, which blocks as programs
/// expect.
fn piped(number: usize, owner: Option<Ids>, host: &mut HostStreams) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (program, ours) = if number == 0 { (reader, writer) } else { (writer, reader) };
    set_owner(&program, owner)?;
    let ours = File::from(ours);
    match number {
        0 => host.stdin = Some(pipe::Sender::from_file(ours)?),
        1 => host.stdout = Some(pipe::Receiver::from_file(ours)?),
        _ => host.stderr = Some(pipe::Receiver::from_file(ours)?),
    }
    Ok(program)
}

/// Gives a stream to the program. Otherwise the program could not open it by name.
fn set_owner(stream: &OwnedFd, owner: Option<Ids>) -> io::Result<()> {
    match owner {
        Some(Ids { uid, gid }) => Ok(fchown(stream, Some(uid.into()), Some(gid.into()))?),
        None => Ok(()),
    }
}

/// A pipe between two programs, with its reading end first. Each program may open its end by name.
pub(crate) fn pipe_of_two() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).fail(ErrorKind::Host, Step::MakeStream)?;
    // Both ends are one inode, which can belong to only one of the programs.
    fchmod(&writer, Mode::from_bits_truncate(0o666)).fail(ErrorKind::Host, Step::MakeStream)?;
    Ok((reader, writer))
}
