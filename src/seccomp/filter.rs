//! A container's filter.

use serde::{Deserialize, Serialize};

use crate::wire::FilterChoice;

use super::denylist::{self, Needs};
use super::program::Instruction;
use super::table::NATIVE;

/// Which system calls the programs of a container may make:
/// [`ContainerBuilder::filter`](crate::ContainerBuilder::filter).
///
/// Beyond the filter, programs cannot mount, because they have no capabilities. 32-bit programs and
/// x32 programs do not run under a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// Refuses what no ordinary program needs, with an error code that makes programs do without.
    ///
    /// - `ENOSYS`: io_uring and asynchronous I/O (`io_setup`); `clone3` (the C library then calls
    ///   `clone`); `process_vm_readv`, `process_vm_writev`, `process_madvise`, `process_mrelease`;
    ///   `modify_ldt`; obsolete calls; calls of other architectures; every call newer than Linux
    ///   6.18.
    /// - `EPERM`: new namespaces, `setns`, `chroot`, `pivot_root`; bpf, perf events, keys,
    ///   `userfaultfd`, fanotify, `open_by_handle_at`, `pidfd_getfd`, `kcmp`; setting NUMA
    ///   policies; modules, kexec, `reboot`, swap, accounting, quotas, the kernel's log, clocks,
    ///   I/O ports, writing back all file systems (`sync`); file leases; terminal requests that
    ///   inject input (`TIOCSTI`, `TIOCLINUX`) or change the line discipline; personalities other
    ///   than those of 32-bit machines, old version numbers and a fixed address space; limits,
    ///   priorities and CPU affinity of pid 1, and priorities of a whole user; SIGCHLD to pid 1,
    ///   through a pidfd, or as the signal of a descriptor; core scheduling (`PR_SCHED_CORE`);
    ///   `SHM_LOCK`; dropping pages of files from memory (`POSIX_FADV_DONTNEED`); requests about
    ///   bridges and VLANs, which load drivers.
    /// - `ENOMEM`: huge pages that the host has reserved (`MAP_HUGETLB`, `MFD_HUGETLB`,
    ///   `SHM_HUGETLB`).
    /// - `EOPNOTSUPP`: setting and removing extended attributes and access control lists
    ///   (`setxattr`, `removexattr`, `file_setattr`); reads and writes that keep nothing in the
    ///   page cache (`RWF_DONTCACHE`).
    /// - `EINVAL`: `O_DIRECT`, for files and pipes, except in `openat2`; notes about a directory's
    ///   files (`F_NOTIFY`); hints about a file's lifetime (`F_SET_RW_HINT`); merging equal pages
    ///   (`PR_SET_MEMORY_MERGE`, `MADV_MERGEABLE`); dropping pages of a file from memory
    ///   (`MADV_COLD`, `MADV_PAGEOUT`).
    /// - `ENOTTY`: requests that set attributes, encryption or verification of a file
    ///   (`FS_IOC_SETFLAGS`), that write back a file or a Btrfs (`FS_IOC_FIEMAP`,
    ///   `BTRFS_IOC_SYNC`), or that ask for the time of a packet (`SIOCGSTAMP`).
    /// - `ENOPROTOOPT`: socket options other than the usual ones of sockets, TCP, UDP and IP.
    ///   Refused are, among others, filters, time stamps and `SO_ZEROCOPY`; `TCP_CONGESTION`,
    ///   `TCP_MD5SIG` and `TCP_ULP`; `UDP_GRO`; multicast groups; IPv6 flow labels.
    /// - Success without effect: setting the limit of core dumps. No core dumps are made
    ///   ([`Limits`](crate::Limits)).
    /// - Success without effect, unless the container has a writable bind mount: writing files back
    ///   to their disk (`fsync`, `fdatasync`, `sync_file_range`, `msync` with `MS_SYNC`). A host
    ///   file that a program receives as a descriptor is not written back either; the caller can do
    ///   that after the run.
    /// - `EAFNOSUPPORT`: sockets other than Unix, IPv4 and IPv6. This includes netlink, with which
    ///   C libraries list network interfaces.
    /// - `EPROTONOSUPPORT`: IP sockets other than TCP, UDP, ICMP and raw.
    #[default]
    Denylist,
    /// Refuses the same calls, and kills a process that makes a call which no program makes by
    /// accident, with SIGSYS. If that is the run's first process, the verdict is
    /// [`ForbiddenSyscall`](crate::Verdict::ForbiddenSyscall).
    ///
    /// C libraries, language runtimes and debuggers try some calls and can do without them. These
    /// calls only get an error code, as under [`Denylist`](Self::Denylist): the calls that get
    /// another code than `EPERM`, except those of other architectures; and `kcmp`, `sync`, file
    /// leases, SIGCHLD, core scheduling, `SHM_LOCK`, pages of files, bridges and VLANs, NUMA
    /// policies, reading clock corrections and personalities. Calls that the kernel itself refuses,
    /// such as mounting or making a pid namespace, kill no process either.
    DenylistKill,
    /// No filter.
    Off,
}

impl From<Filter> for FilterChoice {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Denylist => Self::Denylist { kills: false },
            Filter::DenylistKill => Self::Denylist { kills: true },
            Filter::Off => Self::Off,
        }
    }
}

impl FilterChoice {
    /// The filter as the kernel takes it. `None` for no filter.
    pub(crate) fn compile(self, needs: Needs) -> Option<Vec<Instruction>> {
        match self {
            Self::Denylist { kills } => Some(denylist::compile(&NATIVE, kills, needs)),
            Self::Off => None,
        }
    }
}
