//! The host's end of a program's terminal.
//!
//! Invariant: the program's end is never kept here. So the host reads the end of file once no
//! process has the terminal open.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::command::Window;
use crate::sys::reactor::Async;

/// The host's end of a program's [terminal](crate::Stdio::pty): writing types, reading shows.
///
/// Reading returns the end of file when no process has the terminal open. Dropping this end hangs
/// up: the kernel sends `SIGHUP` to the program. A program that has not begun never begins then;
/// its run fails with `EIO` in the step `take_terminal`.
///
/// ```no_run
/// # async fn example(container: &cellblock::Container) -> Result<(), Box<dyn std::error::Error>> {
/// use cellblock::{Command, Stdio};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let mut command = Command::new("sh");
/// command.stdin(Stdio::pty()).stdout(Stdio::pty()).stderr(Stdio::pty());
/// let mut process = container.spawn(&command).await?;
/// let mut pty = process.pty.take().expect("it has one");
/// pty.write_all(b"tput cols; exit\n").await?;
/// let mut shown = String::new();
/// pty.read_to_string(&mut shown).await?;
/// process.wait().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pty(Async);

impl Pty {
    /// Makes a terminal. Returns the host's end and the program's.
    pub(crate) fn open(window: Window) -> io::Result<(Self, OwnedFd)> {
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&host)?;
        let program = ioctl_tiocgptpeer(&host, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        fcntl_setfl(&host, OFlags::NONBLOCK)?;
        let pty = Self(Async::new(host, Interest::READABLE | Interest::WRITABLE)?);
        pty.resize(window.rows, window.columns)?;
        Ok((pty, program))
    }

    /// Sets the terminal's size, in characters. The kernel sends `SIGWINCH` to the foreground
    /// processes of the terminal.
    ///
    /// # Errors
    /// The kernel's, of ioctl(2) with `TIOCSWINSZ`.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.as_fd(), size)?)
    }
}

/// One task may read and another write.
impl AsyncRead for &Pty {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.0.poll_io(Interest::READABLE, context, |fd| {
            match rustix::io::read(fd, buffer.initialize_unfilled()) {
                // No process has the other end open.
                Err(rustix::io::Errno::IO) => Ok(0),
                read => Ok(read?),
            }
        });
        read.map_ok(|size| buffer.advance(size))
    }
}

impl AsyncWrite for &Pty {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_io(Interest::WRITABLE, context, |fd| Ok(rustix::io::write(fd, bytes)?))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Pty {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pty {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_shutdown(context)
    }
}
