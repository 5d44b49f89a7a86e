//! Reservations of ids among all hosts of a machine.
//!
//! A reservation is a lock and a name, each of which is free exactly when its last descriptor is
//! closed:
//!
//! - A lock on a range of bytes in a file that only this user can open. The file is empty and
//!   stays.
//! - The name of a socket. It also holds against hosts that have another `/run`, or none that they
//!   can write to. Any local user can bind it, so a lock is enough where a user that this host does
//!   not trust has the name, and no ids are left whose name is free.
//!
//! Hosts that share neither a file nor a network namespace do not see each other. Each host begins
//! at a random place of the range, so two of them hardly ever use the same ids.
//!
//! Invariant: a host that is trusted and sees a reservation does not reserve the same ids.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

/// How many places of a range are tried for ids whose name is free.
const TRIED_FOR_A_NAME: u32 = 1024;

#[derive(Debug)]
pub(crate) struct Reservation {
    lock: Option<OwnedFd>,
    name: Option<OwnedFd>,
}

impl Reservation {
    pub(super) fn into_fds(self) -> Vec<OwnedFd> {
        self.lock.into_iter().chain(self.name).collect()
    }
}

/// Reserves `step` ids of `range`. Returns the first of them.
pub(super) fn reserve(range: &Range<u32>, step: u32) -> io::Result<(u32, Reservation)> {
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(()) as u32));
    let slots = range.end.saturating_sub(range.start) / step;
    let with_name = (0..slots.min(TRIED_FOR_A_NAME)).map(|_| true);
    for needs_name in with_name.chain((0..slots).map(|_| false)) {
        let first = range.start + NEXT.fetch_add(1, Ordering::Relaxed) % slots * step;
        if let Some(reservation) = reserve_here(first, step, needs_name)? {
            return Ok((first, reservation));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "every id of the range is in use"))
}

/// Reserves these ids, if they are free.
fn reserve_here(first: u32, step: u32, needs_name: bool) -> io::Result<Option<Reservation>> {
    let lock = match lock(first, step)? {
        Attempt::Reserved(file) => Some(file),
        Attempt::InUse => return Ok(None),
        Attempt::Impossible => None,
    };
    let address = SocketAddrUnix::new_abstract_name(format!("cellblock-ids-{first}").as_bytes())?;
    let name = match bind_name(&address)? {
        Some(socket) => Some(socket),
        None if needs_name || lock.is_none() || is_trusted(&address)? => return Ok(None),
        None => None,
    };
    Ok(Some(Reservation { lock, name }))
}

enum Attempt {
    Reserved(OwnedFd),
    InUse,
    Impossible,
}

/// Locks one byte for each id in the user's file. The lock belongs to the open file description,
/// not to a process.
fn lock(first: u32, step: u32) -> io::Result<Attempt> {
    let Some(file) = lock_file() else { return Ok(Attempt::Impossible) };
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: first.into(),
        l_len: step.into(),
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
        Ok(_) => Ok(Attempt::Reserved(file)),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(Attempt::InUse),
        Err(errno) => Err(errno.into()),
    }
}

/// The file in which this user's hosts lock their ids: in `/run`, or in the user's part of it.
/// `None` if the directory is missing, belongs to another user, or cannot be written to.
fn lock_file() -> Option<OwnedFd> {
    let user = geteuid();
    let dir = if user.is_root() { PathBuf::from("/run") } else { Path::new("/run/user").join(user.to_string()) };
    let is_private = |path: &Path, forbidden: u32| {
        path.symlink_metadata().is_ok_and(|it| it.uid() == user.as_raw() && it.mode() & forbidden == 0)
    };
    if !is_private(&dir, 0o022) {
        return None;
    }
    let path = dir.join("cellblock-ids");
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = open(&path, flags, Mode::S_IRUSR | Mode::S_IWUSR).ok()?;
    // With a wider mode another user could lock it too.
    is_private(&path, 0o077).then_some(file)
}

/// Binds a name. Returns `None` if it is taken. The socket listens, because only such a socket
/// shows whose it is.
fn bind_name(address: &SocketAddrUnix) -> io::Result<Option<OwnedFd>> {
    let socket = new_socket(SocketFlags::CLOEXEC)?;
    match bind(&socket, address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    const AS_MANY_AS_POSSIBLE: i32 = i32::MAX;
    listen(&socket, AS_MANY_AS_POSSIBLE)?;
    Ok(Some(socket))
}

/// Whether root or this process's own user has this name.
fn is_trusted(address: &SocketAddrUnix) -> io::Result<bool> {
    let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    if connect(&socket, address).is_err() {
        return Ok(false);
    }
    let holder = socket_peercred(&socket)?.uid.as_raw();
    Ok(holder == 0 || holder == geteuid().as_raw())
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
