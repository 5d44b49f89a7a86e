//! `SOCK_SEQPACKET` sockets that carry file descriptors.
//!
//! Invariant: a datagram is received whole or is an error. Its descriptors are owned, and so closed
//! by their drop, before the check for truncation. The same code serves the blocking init and the
//! async host.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

/// The kernel's `SCM_MAX_FD`.
pub(crate) const MAX_FDS_PER_DATAGRAM: usize = 253;
const CONTROL_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS_PER_DATAGRAM));

/// Two connected sockets. Both close on exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Whether `fd` is a Unix `SOCK_SEQPACKET` socket.
pub(crate) fn is_seqpacket(fd: impl AsFd) -> bool {
    sockopt::socket_type(&fd) == Ok(SocketType::SEQPACKET) && sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX)
}

/// Sends one datagram with its descriptors, all or nothing. Without `wait`, `WouldBlock` if the
/// socket is full.
pub(crate) fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], wait: bool) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | if wait { SendFlags::empty() } else { SendFlags::DONTWAIT };
    if fds.is_empty() {
        rustix::io::retry_on_intr(|| rustix::net::send(&to, bytes, flags))?;
        return Ok(());
    }
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::io::retry_on_intr(|| sendmsg(&to, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

/// Copies of the descriptors of the next datagram, which stays in the queue. None if the other end
/// has closed. `InvalidData` if this process has no room for them; nothing is lost then.
pub(crate) fn peek_fds(from: impl AsFd, wait: bool) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    let flags = RecvFlags::PEEK | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    recv_with(from, &mut [0; 1], &mut fds, flags, ReturnFlags::CTRUNC)?;
    Ok(fds)
}

/// Receives one datagram into `buffer`, appends its descriptors to `fds`, and returns its size. The
/// size is 0 once the other end has closed and everything that it sent was received.
pub(crate) fn recv(from: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>, wait: bool) -> io::Result<usize> {
    let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    recv_with(from, buffer, fds, flags, ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
}

fn recv_with(
    from: impl AsFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    flags: RecvFlags,
    truncated: ReturnFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | flags;
    let mut receive =
        || rustix::io::retry_on_intr(|| recvmsg(&from, &mut [IoSliceMut::new(buffer)], &mut control, flags));
    let received = match receive() {
        // The other end closed with unread data. The kernel reports that once, before the data that
        // the other end had sent.
        Err(rustix::io::Errno::CONNRESET) => receive(),
        received => received,
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let received = received?;
    if received.flags.intersects(truncated) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a truncated frame, or no room for its descriptors"));
    }
    Ok(received.bytes)
}
