//! Calls on files and devices.

use libc::{EINVAL, ENOTTY, EOPNOTSUPP, EPERM};

use crate::seccomp::rule::{Answer, Checks, low, masked};

use super::processes::CHILD;

/// Dropped pages of a shared file must be read from the disk again, by every process that uses
/// them.
pub(crate) const FADVISE: Checks = Checks {
    cases: &[(&[low(3, &[libc::POSIX_FADV_DONTNEED as u32])], Answer::Refuse(EPERM))],
    default: Answer::Allow,
};

/// The kernel says this of flags that it does not know.
pub(crate) const UNCACHED: Checks = Checks {
    cases: &[(&[masked(5, RWF_DONTCACHE, &[RWF_DONTCACHE])], Answer::Refuse(EOPNOTSUPP))],
    default: Answer::Allow,
};
const RWF_DONTCACHE: u32 = 0x80;

/// Calls that take the flag `O_DIRECT`, which has another value on each architecture.
///
/// On a pipe the flag makes packets of its writes: a read discards the rest of a packet that is
/// longer than the read.
pub(crate) struct Direct<const FLAG: u32>;

impl<const FLAG: u32> Direct<FLAG> {
    #[cfg(any(test, target_arch = "x86_64"))]
    pub(crate) const OPEN: Checks =
        Checks { cases: &[(&[masked(1, FLAG, &[FLAG])], Answer::Refuse(EINVAL))], default: Answer::Allow };
    pub(crate) const OPENAT: Checks =
        Checks { cases: &[(&[masked(2, FLAG, &[FLAG])], Answer::Refuse(EINVAL))], default: Answer::Allow };
    pub(crate) const PIPE2: Checks =
        Checks { cases: &[(&[masked(1, FLAG, &[FLAG])], Answer::Refuse(EINVAL))], default: Answer::Allow };

    /// A process that opens a leased file waits up to 45 s for the lease to be given up. F_SETDELEG
    /// is Linux 6.19's. F_SETSIG makes a descriptor send a signal to its owner, which may be any
    /// process. F_NOTIFY tells what others do in a directory, in other containers too. A write hint
    /// stays with its file, and any program that has the file open can read it.
    pub(crate) const FCNTL: Checks = Checks {
        cases: &[
            (&[low(1, &[F_SETLEASE, F_SETDELEG])], Answer::Refuse(EPERM)),
            (&[low(1, &[F_SETSIG]), low(2, CHILD)], Answer::Refuse(EPERM)),
            (&[low(1, &[F_NOTIFY, F_SET_RW_HINT, F_SET_FILE_RW_HINT])], Answer::Refuse(EINVAL)),
            (&[low(1, &[F_SETFL]), masked(2, FLAG, &[FLAG])], Answer::Refuse(EINVAL)),
        ],
        default: Answer::Allow,
    };
}
const F_SETFL: u32 = 4;
const F_SETSIG: u32 = 10;
const F_SETLEASE: u32 = 1024;
const F_NOTIFY: u32 = 1026;
const F_SET_RW_HINT: u32 = 1036;
const F_SET_FILE_RW_HINT: u32 = 1038;
const F_SETDELEG: u32 = 1040;

/// The kernel ignores the high half of a request (CVE-2019-10063). Setting a line discipline loads
/// a driver on demand, and so do requests about bridges and VLANs.
pub(crate) const IOCTL: Checks = Checks {
    cases: &[
        (&[low(1, &[TIOCSTI, TIOCLINUX, TIOCSETD])], Answer::Forbid(EPERM)),
        (&[low(1, BRIDGES_AND_VLANS)], Answer::Refuse(EPERM)),
        (&[low(1, OF_INODES)], Answer::Refuse(ENOTTY)),
        (&[low(1, WRITING_BACK)], Answer::Refuse(ENOTTY)),
        (&[low(1, TIMES_OF_PACKETS)], Answer::Refuse(ENOTTY)),
    ],
    default: Answer::Allow,
};

/// SIOCGIFBR, SIOCSIFBR, SIOCGIFVLAN, SIOCSIFVLAN, SIOCBRADDBR, SIOCBRDELBR.
const BRIDGES_AND_VLANS: &[u32] = &[0x8940, 0x8941, 0x8982, 0x8983, 0x89a0, 0x89a1];

/// FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION, FS_IOC_ENABLE_VERITY,
/// FS_IOC_SET_ENCRYPTION_POLICY, FS_IOC_ADD_ENCRYPTION_KEY: as `setxattr`, what these set stays
/// with a file, and the key with a file system.
const OF_INODES: &[u32] = &[0x4008_6602, 0x401c_5820, 0x4008_7602, 0x4080_6685, 0x400c_6613, 0xc050_6617];

/// BTRFS_IOC_SYNC, BTRFS_IOC_START_SYNC, BTRFS_IOC_WAIT_SYNC: as `syncfs`. FS_IOC_FIEMAP,
/// EXT4_IOC_ALLOC_DA_BLKS: as `fsync`, the first one by a flag in memory. It works with a file that
/// is open only for reading.
const WRITING_BACK: &[u32] = &[0x9408, 0x8008_9418, 0x4008_9416, 0xc020_660b, 0x660c];

/// SIOCGSTAMP and SIOCGSTAMPNS, each in two forms: as the socket option
/// `SO_TIMESTAMP`, which is refused.
const TIMES_OF_PACKETS: &[u32] = &[0x8906, 0x8907, 0x8010_8906, 0x8010_8907];
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const TIOCSETD: u32 = 0x5423;
