//! A program's terminal, as the host has it.
//!
//! Invariant: the program's end is never kept here, so that the host reads an end of file once the program has gone.

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

/// The other end of a program's [terminal](crate::Stdio::pty): what is written here is typed, what is read here is shown.
///
/// Reading comes to an end when no process has the terminal any more. Dropping it hangs up: `SIGHUP` for the program,
/// and where that has not begun it never does (`EIO` at [`Step::TakeTerminal`](crate::Step::TakeTerminal)).
#[derive(Debug)]
pub struct Pty(Async);

impl Pty {
    /// Makes a terminal; the other part is the program's.
    pub(crate) fn open(window: Window) -> io::Result<(Self, OwnedFd)> {
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&host)?;
        let program = ioctl_tiocgptpeer(&host, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        fcntl_setfl(&host, OFlags::NONBLOCK)?;
        let pty = Self(Async::new(host, Interest::READABLE | Interest::WRITABLE)?);
        pty.resize(window.rows, window.columns)?;
        Ok((pty, program))
    }

    /// Sets the terminal's size, in characters. The kernel sends `SIGWINCH` to what runs in its foreground.
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
                // So the kernel says that nobody has the other end any more.
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
