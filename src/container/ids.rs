//! User and group ids for containers.
//!
//! Invariant: two containers that live at once never share an id. A [`Reservation`] holds the ids
//! of a container. The init keeps it, so the ids are free again exactly when the init is dead.

mod reservation;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};

use crate::wire::Ids;

use reservation::{Reservation, reserve};

/// The default range of host ids: systemd's table of ids (uids-gids) leaves it unused.
pub(crate) const DEFAULT_RANGE: Range<u32> = 1_900_000_000..1_900_131_072;

/// The init's id and the program's.
const IDS_PER_CONTAINER: u32 = 2;

/// The uid and gid inside of a program that has ids of its own, unless the root names others.
const PROGRAM: Ids = Ids { uid: 1000, gid: 1000 };

/// The ids of one container.
#[derive(Debug)]
pub(crate) enum Mapping {
    /// Two host ids that only this container has.
    Own { program: Ids, first: u32, reservation: Reservation },
    /// The ids of the host's process for the init, and a subordinate id of this user for the
    /// program. The set-user-ID tools newuidmap(1) and newgidmap(1) may map it.
    Subordinate { program: Ids, on_host: Ids, reservation: Reservation },
    /// The ids of the host's process, for the init and the program. An ordinary user may map no
    /// other ids alone.
    Shared,
}

impl Mapping {
    /// Ids out of `range`, or the default range, if this process may map them. Without the rights
    /// and without a range, a subordinate id or the ids of this process. If the kernel refuses a
    /// range that the caller asked for, that is an error.
    ///
    /// `inside` are the program's ids inside, where they can be chosen: not 0, which are the
    /// init's.
    pub(super) fn choose(range: Option<&Range<u32>>, inside: Option<Ids>) -> io::Result<Self> {
        let program = inside.unwrap_or(PROGRAM);
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
        if range.is_none() && !capabilities(None)?.effective.contains(needed) {
            return subordinate(program);
        }
        let (first, reservation) = reserve(range.unwrap_or(&DEFAULT_RANGE), IDS_PER_CONTAINER)?;
        Ok(Self::Own { program, first, reservation })
    }

    /// Whether the program's ids differ from the init's.
    pub(super) fn is_own(&self) -> bool {
        !matches!(self, Self::Shared)
    }

    /// The program's ids inside.
    pub(super) fn program(&self) -> Ids {
        match self {
            Self::Own { program, .. } | Self::Subordinate { program, .. } => *program,
            Self::Shared => Ids { uid: 0, gid: 0 },
        }
    }

    /// The program's ids on the host, if this process may give files to them.
    pub(super) fn program_on_host(&self) -> Option<Ids> {
        match self {
            Self::Own { first, .. } => Some(Ids { uid: first + 1, gid: first + 1 }),
            Self::Subordinate { .. } | Self::Shared => None,
        }
    }

    /// The init's ids on the host, if they differ from the ids of this process.
    pub(super) fn init_on_host(&self) -> Option<Ids> {
        match self {
            Self::Own { first, .. } => Some(Ids { uid: *first, gid: *first }),
            Self::Subordinate { .. } | Self::Shared => None,
        }
    }

    /// Writes the maps of a process that has unshared its user namespace.
    pub(super) fn write(&self, pid: u32) -> io::Result<()> {
        let write = |file, content: String| fs::write(format!("/proc/{pid}/{file}"), content);
        match self {
            Self::Own { program, first, .. } => {
                let map = |inside: u32| format!("0 {first} 1\n{inside} {} 1\n", first + 1);
                write("uid_map", map(program.uid))?;
                write("gid_map", map(program.gid))
            }
            Self::Subordinate { program, on_host, .. } => {
                let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
                map_by("newuidmap", "uid_map", pid, [uid, program.uid, on_host.uid])?;
                map_by("newgidmap", "gid_map", pid, [gid, program.gid, on_host.gid])
            }
            Self::Shared => {
                let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
                write("uid_map", format!("0 {uid} 1\n"))?;
                // The kernel lets an ordinary user map a group only without setgroups.
                write("setgroups", "deny".to_owned())?;
                write("gid_map", format!("0 {gid} 1\n"))
            }
        }
    }

    /// The descriptors that the init keeps as long as it uses the ids.
    pub(super) fn into_reservation(self) -> Vec<OwnedFd> {
        match self {
            Self::Own { reservation, .. } | Self::Subordinate { reservation, .. } => reservation.into_fds(),
            Self::Shared => Vec::new(),
        }
    }
}

/// A subordinate id, if this user has some and the tools that map them (subuid(5)). Otherwise the
/// ids of this process.
fn subordinate(program: Ids) -> io::Result<Mapping> {
    // With no_new_privs a tool gains nothing by its set-user-ID bit.
    let may_gain = fs::read_to_string("/proc/thread-self/status")?.lines().any(|line| line == "NoNewPrivs:\t0");
    let has_tools = ["newuidmap", "newgidmap"].iter().all(|tool| tool_path(tool).is_some());
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let range = |file| granted(&fs::read_to_string(file).ok()?, user.as_deref(), nix::unistd::geteuid().as_raw());
    let (true, true, Some(uids), Some(gids)) = (may_gain, has_tools, range("/etc/subuid"), range("/etc/subgid")) else {
        return Ok(Mapping::Shared);
    };
    let length = (uids.end - uids.start).min(gids.end - gids.start);
    let (uid, reservation) = reserve(&(uids.start..uids.start + length), 1)?;
    let gid = gids.start + (uid - uids.start);
    Ok(Mapping::Subordinate { program, on_host: Ids { uid, gid }, reservation })
}

/// The first range that `/etc/subuid` or `/etc/subgid` grants to a user.
fn granted(file: &str, name: Option<&str>, uid: u32) -> Option<Range<u32>> {
    let uid = uid.to_string();
    file.lines().find_map(|line| {
        let [user, first, count] = line.split(':').collect::<Vec<_>>()[..] else { return None };
        let first: u32 = first.parse().ok()?;
        let end = first.checked_add(count.trim().parse().ok().filter(|&count| count > 0)?)?;
        (user == uid || Some(user) == name).then_some(first..end)
    })
}

fn tool_path(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

/// Has a tool map an id to the init's 0, and a subordinate id to the program's.
fn map_by(tool: &str, file: &str, pid: u32, [own, inside, subordinate]: [u32; 3]) -> io::Result<()> {
    let path = tool_path(tool).ok_or(io::ErrorKind::NotFound)?;
    let words = [pid, 0, own, 1, inside, subordinate, 1].map(|word| word.to_string());
    let output = std::process::Command::new(path).args(words).stdin(std::process::Stdio::null()).output();
    // A host that ignores SIGCHLD gets no exit status. The map shows whether the tool worked.
    if !fs::read_to_string(format!("/proc/{pid}/{file}"))?.trim().is_empty() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output?.stderr).trim().to_owned();
    Err(io::Error::other(format!("{tool}: {said}")))
}
