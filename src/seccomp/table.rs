//! The table of what a container's filter refuses, and how.
//!
//! Invariant: this is the only list. A call that it does not name is allowed, up to [`LAST`]. A
//! number above `LAST`, or of no call, gets `ENOSYS`.

use libc::{EAFNOSUPPORT, EINVAL, ENOMEM, ENOPROTOOPT, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, SIGCHLD};

/// The last call that this table considers: Linux 6.18's `file_setattr`.
const LAST: u32 = 469;

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// Success without effect: what the caller asks for holds anyway.
    Ignore,
    /// An error number. C libraries, runtimes or debuggers make the call on their own, and can do
    /// without.
    Refuse(i32),
    /// An error number or, under a filter that kills, the end of the process. No program makes the
    /// call by accident.
    Forbid(i32),
}

impl Answer {
    /// What the filter returns to the kernel.
    pub(super) fn action(self, kills: bool) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Ignore => libc::SECCOMP_RET_ERRNO,
            Self::Forbid(_) if kills => libc::SECCOMP_RET_KILL_PROCESS,
            Self::Refuse(errno) | Self::Forbid(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        }
    }
}

#[derive(Debug)]
pub(super) enum Rule {
    Always(Answer),
    Check(&'static Checks),
}

/// The answer of the first case whose conditions are all met, or the default.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) cases: &'static [(&'static [Condition], Answer)],
    pub(super) default: Answer,
}

/// A condition on a word of the arguments: its bits in `mask` are one of the values in `among`.
#[derive(Debug)]
pub(super) struct Condition {
    /// The word's index. Each argument has two words of 32 bits, the low one first, since both
    /// architectures are little-endian.
    pub(super) word: u32,
    pub(super) mask: u32,
    pub(super) among: &'static [u32],
}

/// An architecture's call numbers.
#[derive(Debug)]
pub(super) struct Arch {
    /// The architecture's value in `struct seccomp_data`.
    pub(super) audit: u32,
    pub(super) clone3: u32,
    /// The calls that write files back to their disk.
    pub(super) syncs: &'static [u32],
    pub(super) calls: &'static [(u32, Rule)],
    /// Ranges of numbers, first and last, of no known call.
    pub(super) unknown: &'static [(u32, u32, Answer)],
}

#[cfg(target_arch = "aarch64")]
pub(super) use self::AARCH64 as NATIVE;
#[cfg(target_arch = "x86_64")]
pub(super) use self::X86_64 as NATIVE;

#[cfg(any(test, target_arch = "x86_64"))]
pub(super) const X86_64: Arch = Arch {
    audit: 0xC000_003E,
    clone3: syscalls::x86_64::Sysno::clone3 as u32,
    syncs: syncs!(x86_64),
    calls: arch!(x86_64 0x4000:
        open => Rule::Check(&Direct::<0x4000>::OPEN);
        iopl ioperm => forbid(EPERM);
        modify_ldt => refuse(ENOSYS);
        _sysctl create_module get_kernel_syms query_module sysfs uselib ustat => refuse(ENOSYS);
    ),
    unknown: &[
        // 335 and 336 are allowed: the kernel places them in a program that a tracer on the host
        // probes.
        (337, 423, Answer::Refuse(ENOSYS)),
        (LAST + 1, X32 - 1, Answer::Refuse(ENOSYS)),
        (X32, 2 * X32 - 1, Answer::Forbid(ENOSYS)),
        (2 * X32, u32::MAX, Answer::Refuse(ENOSYS)),
    ],
};

/// The bit of the numbers of the x32 ABI.
#[cfg(any(test, target_arch = "x86_64"))]
const X32: u32 = 0x4000_0000;

/// Only the table is tested, against the same cases as the other architecture's. No kernel of this
/// architecture has run the filter.
#[cfg(any(test, target_arch = "aarch64"))]
pub(super) const AARCH64: Arch = Arch {
    audit: 0xC000_00B7,
    clone3: syscalls::aarch64::Sysno::clone3 as u32,
    syncs: syncs!(aarch64),
    calls: arch!(aarch64 0x1_0000:),
    unknown: &[
        // The second range includes the calls that only 32-bit kernels have.
        (244, 259, Answer::Refuse(ENOSYS)),
        (295, 423, Answer::Refuse(ENOSYS)),
        (LAST + 1, u32::MAX, Answer::Refuse(ENOSYS)),
    ],
};

/// The calls that are not simply allowed: those that both architectures have, and an architecture's
/// own. `$direct` is the architecture's `O_DIRECT`.
macro_rules! arch {
    ($arch:ident $direct:literal: $($own:tt)*) => { rules!($arch:
        // Much kernel code, and programs expect that it may be absent. libuv and others try it.
        io_uring_setup io_uring_enter io_uring_register => refuse(ENOSYS);
        // Contexts count against a limit of the whole machine, and the kernel works for them on
        // threads of its own.
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents => refuse(ENOSYS);
        bpf perf_event_open userfaultfd fanotify_init => forbid(EPERM);
        add_key request_key keyctl => forbid(EPERM);

        // New namespaces and roots. Pid 1 has made its own before it installs the filter.
        clone => Rule::Check(&CLONE);
        clone3 => refuse(ENOSYS);
        unshare => Rule::Check(&UNSHARE);
        setns pivot_root chroot => forbid(EPERM);

        // Memory and descriptors of other processes. Debuggers try the first two and fall back to
        // ptrace. Memory allocators try process_madvise.
        process_vm_readv process_vm_writev process_madvise process_mrelease => refuse(ENOSYS);
        kcmp => refuse(EPERM);
        pidfd_getfd open_by_handle_at => forbid(EPERM);

        // Pid 1 may have the program's user id. No process can trace it, and it ignores every
        // signal but SIGCHLD.
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler => Rule::Check(&FIRST_IS_PID);
        prlimit64 => Rule::Check(&PRLIMIT);
        setrlimit => Rule::Check(&SETRLIMIT);
        kill tkill rt_sigqueueinfo => Rule::Check(&SIGNAL_TO_PROCESS);
        tgkill rt_tgsigqueueinfo => Rule::Check(&SIGNAL_TO_THREAD);
        pidfd_send_signal => Rule::Check(&SIGNAL_TO_PIDFD);
        setpriority => Rule::Check(&SETPRIORITY);
        ioprio_set => Rule::Check(&IOPRIO_SET);

        // Huge pages that the host has reserved, for which no control group is charged. Programs
        // use ordinary pages when there are none.
        mmap => Rule::Check(&MMAP);
        memfd_create => Rule::Check(&MEMFD_CREATE);
        shmget => Rule::Check(&SHMGET);
        // The kernel counts a segment's locked memory for the user, not for the process.
        shmctl => Rule::Check(&SHMCTL);
        // Numerical libraries and databases try these, and continue without them.
        mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node => refuse(EPERM);

        // Settings of the whole machine.
        init_module finit_module delete_module kexec_load kexec_file_load reboot => forbid(EPERM);
        swapon swapoff acct quotactl quotactl_fd syslog vhangup => forbid(EPERM);
        clock_settime settimeofday => forbid(EPERM);
        // Programs also read the clock's corrections with these.
        adjtimex clock_adjtime => refuse(EPERM);

        // A program could keep the machine writing back all its dirty pages.
        sync syncfs => refuse(EPERM);
        // These make the kernel commit the journal of the host's file system, on threads of its
        // own, even for a file that is open only for reading.
        fsync fdatasync sync_file_range => Rule::Always(Answer::Ignore);
        msync => Rule::Check(&MSYNC);
        fadvise64 => Rule::Check(&FADVISE);
        // Reads that bypass the page cache take the disk's bandwidth again each time. `openat2`
        // passes its flags in memory, where no filter sees them, and pid 1 needs it.
        openat => Rule::Check(&Direct::<$direct>::OPENAT);
        pipe2 => Rule::Check(&Direct::<$direct>::PIPE2);
        fcntl => Rule::Check(&Direct::<$direct>::FCNTL);
        preadv2 pwritev2 => Rule::Check(&UNCACHED);

        // No control group is charged for the memory of an attribute or an access control list, and
        // they outlive the run on a file that the caller lends.
        setxattr lsetxattr fsetxattr setxattrat => refuse(EOPNOTSUPP);
        removexattr lremovexattr fremovexattr removexattrat => refuse(EOPNOTSUPP);
        file_setattr => refuse(EOPNOTSUPP);

        prctl => Rule::Check(&PRCTL);
        madvise => Rule::Check(&MADVISE);
        ioctl => Rule::Check(&IOCTL);
        personality => Rule::Check(&PERSONALITY);
        socket => Rule::Check(&SOCKET);
        socketpair => Rule::Check(&SOCKETPAIR);
        setsockopt => Rule::Check(&SETSOCKOPT);

        lookup_dcookie nfsservctl => refuse(ENOSYS);
        $($own)*
    ) };
}

macro_rules! rules {
    ($arch:ident: $($($name:ident)+ => $rule:expr;)+) => {
        &[$($((syscalls::$arch::Sysno::$name as u32, $rule)),+),+]
    };
}

macro_rules! syncs {
    ($arch:ident) => {{
        use syscalls::$arch::Sysno;
        &[Sysno::fsync as u32, Sysno::fdatasync as u32, Sysno::sync_file_range as u32, Sysno::msync as u32]
    }};
}

use {arch, rules, syncs};

const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Older kernels take 64 bits of flags, but no flag is in the high half. `clone` cannot make a time
/// namespace.
const CLONE: Checks =
    Checks { cases: &[(&[masked(0, NAMESPACES, &[0])], Answer::Allow)], default: Answer::Forbid(EPERM) };

/// Pid 1 unshares these namespaces at a reset, and its children unshare a cgroup namespace. The
/// kernel refuses them to programs, and looks at all 64 bits of the flags.
const UNSHARE: Checks =
    Checks { cases: &[(&[low(0, OF_PID_1), high(0, &[0])], Answer::Allow)], default: Answer::Forbid(EPERM) };

const OF_PID_1: &[u32] = &[libc::CLONE_NEWCGROUP as u32, libc::CLONE_NEWIPC as u32, libc::CLONE_NEWNET as u32];

const FIRST_IS_PID: Checks = Checks { cases: &[(&[low(0, &[1])], Answer::Forbid(EPERM))], default: Answer::Allow };

/// The kernel starts the host's core dump handler even under a limit of 0, but not under the limit
/// of 1 that pid 1 has set (`coredump_pipe` in Linux's fs/coredump.c), so the limit must stay 1. A
/// program that sets it wants no dump, and there is none.
const PRLIMIT: Checks = Checks {
    cases: &[
        (&[low(0, &[1])], Answer::Forbid(EPERM)),
        (&[low(2, &[0]), high(2, &[0])], Answer::Allow),
        (&[low(1, &[libc::RLIMIT_CORE]), low(3, &[0]), high(3, &[0])], Answer::Ignore),
        // The filter cannot return the old limit.
        (&[low(1, &[libc::RLIMIT_CORE])], Answer::Refuse(EPERM)),
    ],
    default: Answer::Allow,
};
const SETRLIMIT: Checks =
    Checks { cases: &[(&[low(0, &[libc::RLIMIT_CORE])], Answer::Ignore)], default: Answer::Allow };

/// Pid 1 wakes up at SIGCHLD.
const SIGNAL_TO_PROCESS: Checks =
    Checks { cases: &[(&[low(0, &[1]), low(1, CHILD)], Answer::Refuse(EPERM))], default: Answer::Allow };
const SIGNAL_TO_THREAD: Checks =
    Checks { cases: &[(&[low(1, &[1]), low(2, CHILD)], Answer::Refuse(EPERM))], default: Answer::Allow };
/// The filter cannot see which process the pidfd is for.
const SIGNAL_TO_PIDFD: Checks = Checks { cases: &[(&[low(1, CHILD)], Answer::Refuse(EPERM))], default: Answer::Allow };
const CHILD: &[u32] = &[SIGCHLD as u32];

const MMAP: Checks = Checks {
    cases: &[(&[masked(3, libc::MAP_HUGETLB as u32, &[libc::MAP_HUGETLB as u32])], Answer::Refuse(ENOMEM))],
    default: Answer::Allow,
};
const MEMFD_CREATE: Checks = Checks {
    cases: &[(&[masked(1, libc::MFD_HUGETLB, &[libc::MFD_HUGETLB])], Answer::Refuse(ENOMEM))],
    default: Answer::Allow,
};
const SHMGET: Checks = Checks {
    cases: &[(&[masked(2, libc::SHM_HUGETLB as u32, &[libc::SHM_HUGETLB as u32])], Answer::Refuse(ENOMEM))],
    default: Answer::Allow,
};

const SHMCTL: Checks =
    Checks { cases: &[(&[low(1, &[libc::SHM_LOCK as u32])], Answer::Refuse(EPERM))], default: Answer::Allow };

/// Dropped pages of a shared file must be read from the disk again, by every process that uses
/// them.
const FADVISE: Checks = Checks {
    cases: &[(&[low(3, &[libc::POSIX_FADV_DONTNEED as u32])], Answer::Refuse(EPERM))],
    default: Answer::Allow,
};

/// Programs also ask with `msync` whether an address is mapped, without this flag.
const MSYNC: Checks = Checks {
    cases: &[(&[masked(2, libc::MS_SYNC as u32, &[libc::MS_SYNC as u32])], Answer::Ignore)],
    default: Answer::Allow,
};

/// The kernel says this of flags that it does not know.
const UNCACHED: Checks = Checks {
    cases: &[(&[masked(5, RWF_DONTCACHE, &[RWF_DONTCACHE])], Answer::Refuse(EOPNOTSUPP))],
    default: Answer::Allow,
};
const RWF_DONTCACHE: u32 = 0x80;

/// A process with a core scheduling cookie keeps all other processes off the sibling threads of its
/// CPU cores. A kernel thread merges equal pages, and the time of a write tells whether another
/// container had an equal page.
const PRCTL: Checks = Checks {
    cases: &[
        (&[low(0, &[PR_SCHED_CORE])], Answer::Refuse(EPERM)),
        (&[low(0, &[PR_SET_MEMORY_MERGE])], Answer::Refuse(EINVAL)),
    ],
    default: Answer::Allow,
};
const PR_SCHED_CORE: u32 = 62;
const PR_SET_MEMORY_MERGE: u32 = 67;
/// MADV_COLD and MADV_PAGEOUT drop pages of a file as [`FADVISE`] says, if the program owns the file
/// or may write to it.
const MADVISE: Checks = Checks {
    cases: &[(
        &[low(2, &[libc::MADV_MERGEABLE as u32, libc::MADV_COLD as u32, libc::MADV_PAGEOUT as u32])],
        Answer::Refuse(EINVAL),
    )],
    default: Answer::Allow,
};

/// Pid 1 is the only process of process group 1.
const SETPRIORITY: Checks = Checks {
    cases: &[
        (&[low(0, &[PRIO_PROCESS, PRIO_PGRP]), low(1, &[1])], Answer::Forbid(EPERM)),
        (&[low(0, &[PRIO_USER])], Answer::Forbid(EPERM)),
    ],
    default: Answer::Allow,
};
const PRIO_PROCESS: u32 = 0;
const PRIO_PGRP: u32 = 1;
const PRIO_USER: u32 = 2;

/// As [`SETPRIORITY`], with numbers that begin at 1.
const IOPRIO_SET: Checks = Checks {
    cases: &[
        (&[low(0, &[IOPRIO_WHO_PROCESS, IOPRIO_WHO_PGRP]), low(1, &[1])], Answer::Forbid(EPERM)),
        (&[low(0, &[IOPRIO_WHO_USER])], Answer::Forbid(EPERM)),
    ],
    default: Answer::Allow,
};
const IOPRIO_WHO_PROCESS: u32 = 1;
const IOPRIO_WHO_PGRP: u32 = 2;
const IOPRIO_WHO_USER: u32 = 3;

/// Calls that take the flag `O_DIRECT`, which has another value on each architecture.
///
/// On a pipe the flag makes packets of its writes: a read discards the rest of a packet that is
/// longer than the read.
struct Direct<const FLAG: u32>;

impl<const FLAG: u32> Direct<FLAG> {
    #[cfg(any(test, target_arch = "x86_64"))]
    const OPEN: Checks =
        Checks { cases: &[(&[masked(1, FLAG, &[FLAG])], Answer::Refuse(EINVAL))], default: Answer::Allow };
    const OPENAT: Checks =
        Checks { cases: &[(&[masked(2, FLAG, &[FLAG])], Answer::Refuse(EINVAL))], default: Answer::Allow };
    const PIPE2: Checks =
        Checks { cases: &[(&[masked(1, FLAG, &[FLAG])], Answer::Refuse(EINVAL))], default: Answer::Allow };

    /// A process that opens a leased file waits up to 45 s for the lease to be given up. F_SETDELEG
    /// is Linux 6.19's. F_SETSIG makes a descriptor send a signal to its owner, which may be any
    /// process. F_NOTIFY tells what others do in a directory, in other containers too. A write hint
    /// stays with its file, and any program that has the file open can read it.
    const FCNTL: Checks = Checks {
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
const IOCTL: Checks = Checks {
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
/// EXT4_IOC_ALLOC_DA_BLKS: as `fsync`, the first one by a flag in memory. It works with a file that is
/// open only for reading.
const WRITING_BACK: &[u32] = &[0x9408, 0x8008_9418, 0x4008_9416, 0xc020_660b, 0x660c];
/// SIOCGSTAMP and SIOCGSTAMPNS, each in two forms: as [`OF_SOCKETS`], without `SO_TIMESTAMP`.
const TIMES_OF_PACKETS: &[u32] = &[0x8906, 0x8907, 0x8010_8906, 0x8010_8907];
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const TIOCSETD: u32 = 0x5423;

/// Allowed are a query, and what 32-bit builds, sanitizers, debuggers and Lisps set.
const PERSONALITY: Checks = Checks {
    cases: &[
        (&[low(0, &[u32::MAX])], Answer::Allow),
        (&[masked(0, !(PER_LINUX32 | UNAME26 | ADDR_NO_RANDOMIZE), &[0])], Answer::Allow),
    ],
    default: Answer::Refuse(EPERM),
};
const PER_LINUX32: u32 = 0x0008;
const UNAME26: u32 = 0x2_0000;
const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;

/// Allowed are Unix sockets, and IP sockets with the usual protocols. SCTP, DCCP, L2TP and others
/// load drivers on demand, and so does a type with a protocol that does not fit it. The kernel's
/// replies in a netlink socket are memory for which no control group is charged. The kernel refuses
/// raw sockets. Libraries try sockets that they can do without, as OpenSSL does with AF_ALG.
const SOCKET: Checks = Checks {
    cases: &[
        (&[low(0, &[libc::AF_UNIX as u32])], Answer::Allow),
        (&[low(0, IP), STREAM, low(2, &[0, libc::IPPROTO_TCP as u32])], Answer::Allow),
        (&[low(0, IP), DGRAM, low(2, &[0, libc::IPPROTO_UDP as u32])], Answer::Allow),
        (&[low(0, IP4), DGRAM, low(2, &[libc::IPPROTO_ICMP as u32])], Answer::Allow),
        (&[low(0, IP6), DGRAM, low(2, &[libc::IPPROTO_ICMPV6 as u32])], Answer::Allow),
        (&[low(0, IP), RAW], Answer::Allow),
        (&[low(0, IP)], Answer::Refuse(EPROTONOSUPPORT)),
    ],
    default: Answer::Refuse(EAFNOSUPPORT),
};
const STREAM: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_STREAM as u32]);
const DGRAM: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_DGRAM as u32]);
const RAW: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_RAW as u32]);
/// The argument also has the flags SOCK_CLOEXEC and SOCK_NONBLOCK.
const SOCK_TYPE_MASK: u32 = 0xf;
const IP4: &[u32] = &[libc::AF_INET as u32];
const IP6: &[u32] = &[libc::AF_INET6 as u32];
const IP: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

/// Allowed are the options that ordinary programs set, and that neither allocate memory nor change
/// anything beyond their socket. Others load modules (`TCP_CONGESTION`, `TCP_ULP`), or allocate
/// memory for which no control group is charged (filters, `TCP_MD5SIG`, multicast groups and their
/// sources), or belong to the whole machine (flow labels; `SO_TIMESTAMP` and `UDP_GRO`, which
/// patch the kernel's code when the first socket sets them and when the last one closes).
const SETSOCKOPT: Checks = Checks {
    cases: &[
        (&[low(1, &[libc::SOL_SOCKET as u32]), low(2, OF_SOCKETS)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_TCP as u32]), low(2, OF_TCP)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_IP as u32]), low(2, OF_IP4)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_IPV6 as u32]), low(2, OF_IP6)], Answer::Allow),
        (&[low(1, &[libc::IPPROTO_UDP as u32]), low(2, OF_UDP)], Answer::Allow),
    ],
    default: Answer::Refuse(ENOPROTOOPT),
};
/// SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE,
/// SO_OOBINLINE, SO_PRIORITY, SO_LINGER, SO_REUSEPORT, SO_PASSCRED, SO_RCVLOWAT, SO_RCVTIMEO and
/// SO_SNDTIMEO in two forms, SO_PASSSEC, SO_RXQ_OVFL, SO_PEEK_OFF, SO_PASSPIDFD, SO_PASSRIGHTS.
const OF_SOCKETS: &[u32] = &[1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18, 20, 21, 66, 67, 34, 40, 42, 76, 83];
/// TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT,
/// TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_QUICKACK, TCP_USER_TIMEOUT, TCP_FASTOPEN,
/// TCP_NOTSENT_LOWAT, TCP_FASTOPEN_CONNECT, TCP_INQ.
const OF_TCP: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 18, 23, 25, 30, 36];
/// IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_FREEBIND,
/// IP_BIND_ADDRESS_NO_PORT, IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP,
/// IP_MULTICAST_ALL.
const OF_IP4: &[u32] = &[1, 2, 8, 10, 11, 12, 13, 15, 24, 32, 33, 34, 49];
/// IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP,
/// IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_V6ONLY, IPV6_MULTICAST_ALL, IPV6_RECVPKTINFO,
/// IPV6_RECVHOPLIMIT, IPV6_DONTFRAG, IPV6_RECVTCLASS, IPV6_TCLASS, IPV6_ADDR_PREFERENCES,
/// IPV6_FREEBIND.
const OF_IP6: &[u32] = &[16, 17, 18, 19, 23, 25, 26, 29, 49, 51, 62, 66, 67, 72, 78];
/// UDP_CORK, UDP_SEGMENT.
const OF_UDP: &[u32] = &[1, 103];

const SOCKETPAIR: Checks =
    Checks { cases: &[(&[low(0, &[libc::AF_UNIX as u32])], Answer::Allow)], default: Answer::Refuse(EAFNOSUPPORT) };

const fn refuse(errno: i32) -> Rule {
    Rule::Always(Answer::Refuse(errno))
}

const fn forbid(errno: i32) -> Rule {
    Rule::Always(Answer::Forbid(errno))
}

const fn low(argument: u32, among: &'static [u32]) -> Condition {
    masked(argument, u32::MAX, among)
}

const fn masked(argument: u32, mask: u32, among: &'static [u32]) -> Condition {
    Condition { word: 2 * argument, mask, among }
}

const fn high(argument: u32, among: &'static [u32]) -> Condition {
    Condition { word: 2 * argument + 1, mask: u32::MAX, among }
}
