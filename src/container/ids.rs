//! User and group ids for containers.
//!
//! Invariant: two containers that live at once never share an id. Whoever holds a reservation's socket has its ids;
//! the init keeps it, so they are free again exactly when it is dead, and nothing is written anywhere.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::thread::{CapabilitySet, capabilities};

use crate::wire::Ids;

/// Where ids come from unless the caller says otherwise: a range that systemd's table of ids (uids-gids) leaves unused.
pub(crate) const DEFAULT_RANGE: Range<u32> = 1_900_000_000..1_900_131_072;

/// Two of each container: the init's, and the program's.
const IDS_PER_CONTAINER: u32 = 2;

/// The program's uid and gid as seen inside, where it has ids of its own.
const PROGRAM: u32 = 1000;

/// The ids of one container.
#[derive(Debug)]
pub(super) enum Mapping {
    /// Host ids of the container's own.
    Own { first: u32, reservation: OwnedFd },
    /// The host process's own ids: all that an ordinary user may map. The program shares them with the init.
    Shared,
}

impl Mapping {
    /// Ids out of `range` where this process may map them, and its own otherwise. A range that the caller asked for is
    /// used, or the kernel's refusal is an error.
    pub(super) fn choose(range: Option<&Range<u32>>) -> io::Result<Self> {
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        if range.is_none() && !capabilities(None)?.effective.contains(needed) {
            return Ok(Self::Shared);
        }
        reserve(range.unwrap_or(&DEFAULT_RANGE))
    }

    /// The program's ids as seen inside.
    pub(super) fn program(&self) -> Ids {
        match self {
            Self::Own { .. } => Ids { uid: PROGRAM, gid: PROGRAM },
            Self::Shared => Ids { uid: 0, gid: 0 },
        }
    }

    /// The program's ids on the host, where they are not this process's own.
    pub(super) fn program_on_host(&self) -> Option<Ids> {
        match self {
            Self::Own { first, .. } => Some(Ids { uid: first + 1, gid: first + 1 }),
            Self::Shared => None,
        }
    }

    /// The init's ids on the host, where they are not this process's own.
    pub(super) fn init_on_host(&self) -> Option<Ids> {
        match self {
            Self::Own { first, .. } => Some(Ids { uid: *first, gid: *first }),
            Self::Shared => None,
        }
    }

    /// Writes the maps of a process that has unshared its user namespace.
    pub(super) fn write(&self, pid: u32) -> io::Result<()> {
        let write = |file, content: String| fs::write(format!("/proc/{pid}/{file}"), content);
        match self {
            Self::Own { first, .. } => {
                let map = format!("0 {first} 1\n{PROGRAM} {} 1\n", first + 1);
                write("uid_map", map.clone())?;
                write("gid_map", map)
            }
            Self::Shared => {
                let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
                write("uid_map", format!("0 {uid} 1\n"))?;
                // The kernel wants it given up before an ordinary user may map a group.
                write("setgroups", "deny".to_owned())?;
                write("gid_map", format!("0 {gid} 1\n"))
            }
        }
    }

    /// The fd that the init keeps for as long as it uses the ids.
    pub(super) fn into_reservation(self) -> Option<OwnedFd> {
        match self {
            Self::Own { reservation, .. } => Some(reservation),
            Self::Shared => None,
        }
    }
}

/// Reserves by the name of a socket: abstract, so it is in no file system, and gone with its last holder.
fn reserve(range: &Range<u32>) -> io::Result<Mapping> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let places = range.end.saturating_sub(range.start) / IDS_PER_CONTAINER;
    for _ in 0..places {
        let first = range.start + NEXT.fetch_add(1, Ordering::Relaxed) % places * IDS_PER_CONTAINER;
        let name = format!("cellblock-ids-{first}");
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        match bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?) {
            Ok(()) => {
                return Ok(Mapping::Own { first, reservation: socket });
            }
            Err(rustix::io::Errno::ADDRINUSE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "every id of the range is in use"))
}
