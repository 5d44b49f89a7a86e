//! A program's standard streams.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

/// Where a standard stream of a program comes from, or goes to.
#[derive(Clone)]
#[must_use]
pub struct Stdio(pub(crate) Stream);

#[derive(Clone)]
pub(crate) enum Stream {
    Null,
    Piped,
    Pty,
    Inherit,
    AsStdout,
    Fd(Arc<OwnedFd>),
    Bytes(Arc<[u8]>),
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Stdio {
    /// The host's `/dev/null`.
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    /// A new pipe. The [`Process`](crate::Process) has its other end.
    ///
    /// ```no_run
    /// # use cellblock::Container;
    /// # async fn example(container: Container) -> Result<(), Box<dyn std::error::Error>> {
    /// use cellblock::{Command, Stdio};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let mut command = Command::new("cat");
    /// command.stdin(Stdio::piped()).stdout(Stdio::piped());
    /// let mut process = container.spawn(&command).await?;
    /// let mut stdin = process.stdin.take().unwrap();
    /// stdin.write_all(b"hello").await?;
    /// drop(stdin); // the program reads the end of its input
    /// let mut text = String::new();
    /// process.stdout.take().unwrap().read_to_string(&mut text).await?;
    /// assert_eq!(text, "hello");
    /// # Ok(()) }
    /// ```
    pub fn piped() -> Self {
        Self(Stream::Piped)
    }

    /// A new pseudo-terminal. The [`Process`](crate::Process) has its other end.
    ///
    /// All streams of a command that are set to `pty` share one terminal. It controls the program's
    /// session: job control and Ctrl-C work, a change of its size sends `SIGWINCH`, and its end
    /// sends `SIGHUP`.
    ///
    /// The terminal belongs to the host's devpts, so it has no name inside the container and tty(1)
    /// does not find it. A program that opens `/dev/tty` needs
    /// [`Mount::device`](crate::Mount::device) for it.
    ///
    /// ```no_run
    /// # async fn example(container: cellblock::Container) -> cellblock::Result<()> {
    /// use cellblock::{Command, Stdio};
    ///
    /// let mut shell = Command::new("/bin/sh");
    /// shell.stdin(Stdio::pty()).stdout(Stdio::pty()).stderr(Stdio::pty()).window_size(40, 120);
    /// let process = container.spawn(&shell).await?;
    /// # Ok(()) }
    /// ```
    pub fn pty() -> Self {
        Self(Stream::Pty)
    }

    /// A copy of the host process's own stream.
    pub fn inherit() -> Self {
        Self(Stream::Inherit)
    }

    /// For standard error: the same destination as standard output.
    pub fn as_stdout() -> Self {
        Self(Stream::AsStdout)
    }

    /// For standard input: these bytes. The program reads them from a sealed file in memory, so no
    /// task has to write them. [`Command::stdin`](crate::Command::stdin) takes them directly.
    ///
    /// ```
    /// use cellblock::{Command, Stdio};
    ///
    /// Command::new("wc").stdin(Stdio::bytes("6 7\n")); // the same as .stdin("6 7\n")
    /// ```
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Stream::Bytes(bytes.into().into()))
    }

    pub(super) fn is_pty(&self) -> bool {
        matches!(self.0, Stream::Pty)
    }
}

macro_rules! from_descriptor {
    ($($kind:ty),* $(,)?) => {$(
        /// The program gets a copy of this descriptor. All runs of the command share its file
        /// offset, its flags and its locks. What a program may change about the file, the next run
        /// finds changed.
        ///
        /// The exception is a sealed memfd, in a container whose programs have the host's user id:
        /// each run gets a copy of the memfd at its current offset, and does not move that.
        impl From<$kind> for Stdio {
            fn from(fd: $kind) -> Self {
                Self(Stream::Fd(Arc::new(fd.into())))
            }
        }
    )*};
}

from_descriptor! {
    OwnedFd, File, PipeReader, PipeWriter, ChildStdin, ChildStdout, ChildStderr,
    UnixStream, UnixDatagram, TcpStream, UdpSocket,
}

macro_rules! from_bytes {
    ($($kind:ty),* $(,)?) => {$(
        /// As [`Stdio::bytes`].
        impl From<$kind> for Stdio {
            fn from(bytes: $kind) -> Self {
                Self::bytes(bytes)
            }
        }
    )*};
}

from_bytes!(&str, String, &[u8], Vec<u8>, Box<[u8]>, Cow<'_, [u8]>);

/// As [`Stdio::bytes`].
impl From<&String> for Stdio {
    fn from(text: &String) -> Self {
        Self::bytes(text.as_str())
    }
}

/// As [`Stdio::bytes`].
impl<const N: usize> From<&[u8; N]> for Stdio {
    fn from(bytes: &[u8; N]) -> Self {
        Self::bytes(bytes)
    }
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stream::Null => f.write_str("Null"),
            Stream::Piped => f.write_str("Piped"),
            Stream::Pty => f.write_str("Pty"),
            Stream::Inherit => f.write_str("Inherit"),
            Stream::AsStdout => f.write_str("AsStdout"),
            Stream::Fd(fd) => write!(f, "Fd({fd:?})"),
            Stream::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}
