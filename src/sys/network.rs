//! The loopback of a network namespace.

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::syscall::syscall;

/// Brings up the loopback of the calling process's network namespace. The caller needs
/// CAP_NET_ADMIN over that namespace.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let arguments = [socket.as_raw_fd() as usize, libc::SIOCSIFFLAGS as usize, (&raw const request) as usize, 0, 0];
    // SAFETY: the struct is the one of this request, and outlives the call.
    unsafe { syscall(libc::SYS_ioctl, arguments) }.map(drop)
}
