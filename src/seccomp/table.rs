//! What is refused, and how: the only list.
//!
//! Invariant: a call that is not named here is allowed, up to [`LAST`]; a number above it, or of no call, is `ENOSYS`.

use libc::{EAFNOSUPPORT, ENOMEM, ENOSYS, EPERM, EPROTONOSUPPORT, SIGCHLD};

/// The last call that this list was made for, Linux 6.18's `file_setattr`: newer ones have not been thought about.
const LAST: u32 = 469;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// Nothing is done, and success is said: what was asked for holds anyway.
    Ignore,
    /// This errno: C libraries, runtimes or debuggers make the call unasked, and can do without.
    Refuse(i32),
    /// This errno or, where the filter kills, the end of the process: nobody makes the call by accident.
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

/// The answer of the first case whose conditions are all met.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) cases: &'static [(&'static [Condition], Answer)],
    pub(super) otherwise: Answer,
}

/// What these bits of a word of the arguments must be among.
#[derive(Debug)]
pub(super) struct Condition {
    /// 32 bits each, two for each argument, the low one first: both architectures are little-endian.
    pub(super) word: u32,
    pub(super) mask: u32,
    pub(super) among: &'static [u32],
}

/// An architecture's numbers.
#[derive(Debug)]
pub(super) struct Arch {
    /// What the kernel calls it in struct seccomp_data.
    pub(super) audit: u32,
    pub(super) clone3: u32,
    pub(super) calls: &'static [(u32, Rule)],
    /// Numbers, from one to another, of no known call.
    pub(super) strangers: &'static [(u32, u32, Answer)],
}

#[cfg(target_arch = "aarch64")]
pub(super) use self::AARCH64 as NATIVE;
#[cfg(target_arch = "x86_64")]
pub(super) use self::X86_64 as NATIVE;

#[cfg(any(test, target_arch = "x86_64"))]
pub(super) const X86_64: Arch = Arch {
    audit: 0xC000_003E,
    clone3: syscalls::x86_64::Sysno::clone3 as u32,
    calls: arch!(x86_64:
        iopl ioperm => forbid(EPERM);
        modify_ldt => refuse(ENOSYS);
        _sysctl create_module get_kernel_syms query_module sysfs uselib ustat => refuse(ENOSYS);
    ),
    strangers: &[
        // 335 and 336 stay: the kernel itself places them in a program that somebody on the host looks into.
        (337, 423, Answer::Refuse(ENOSYS)),
        (LAST + 1, X32 - 1, Answer::Refuse(ENOSYS)),
        (X32, 2 * X32 - 1, Answer::Forbid(ENOSYS)),
        (2 * X32, u32::MAX, Answer::Refuse(ENOSYS)),
    ],
};

/// The bit that makes a number one of the x32 ABI's.
#[cfg(any(test, target_arch = "x86_64"))]
const X32: u32 = 0x4000_0000;

/// Tested as a table only, against the same cases as the other: no kernel of this architecture has run it yet.
#[cfg(any(test, target_arch = "aarch64"))]
pub(super) const AARCH64: Arch = Arch {
    audit: 0xC000_00B7,
    clone3: syscalls::aarch64::Sysno::clone3 as u32,
    calls: arch!(aarch64:),
    strangers: &[
        // The latter with those that only 32-bit kernels have.
        (244, 259, Answer::Refuse(ENOSYS)),
        (295, 423, Answer::Refuse(ENOSYS)),
        (LAST + 1, u32::MAX, Answer::Refuse(ENOSYS)),
    ],
};

/// The calls of an architecture that are not simply allowed: those that both have, and its own.
macro_rules! arch {
    ($arch:ident: $($own:tt)*) => { rules!($arch:
        // Much code of the kernel's, of which no program can tell whether it is there. libuv and others ask.
        io_uring_setup io_uring_enter io_uring_register => refuse(ENOSYS);
        bpf perf_event_open userfaultfd fanotify_init => forbid(EPERM);
        add_key request_key keyctl => forbid(EPERM);

        // New namespaces, and other roots. Pid 1 has its own by now.
        clone => Rule::Check(&CLONE);
        clone3 => refuse(ENOSYS);
        unshare => Rule::Check(&UNSHARE);
        setns pivot_root chroot => forbid(EPERM);

        // Others' memory and descriptors. Debuggers try the first two, and use ptrace where they are not there; memory
        // allocators try process_madvise.
        process_vm_readv process_vm_writev process_madvise process_mrelease => refuse(ENOSYS);
        kcmp => refuse(EPERM);
        pidfd_getfd open_by_handle_at => forbid(EPERM);

        // Pid 1 may have the program's user id. Nobody can trace it, and it is deaf to every signal but one.
        sched_setaffinity sched_setattr sched_setparam sched_setscheduler => Rule::Check(&FIRST_IS_PID);
        prlimit64 => Rule::Check(&PRLIMIT);
        setrlimit => Rule::Check(&SETRLIMIT);
        kill tkill rt_sigqueueinfo => Rule::Check(&SIGNAL_TO_PROCESS);
        tgkill rt_tgsigqueueinfo => Rule::Check(&SIGNAL_TO_THREAD);
        pidfd_send_signal => Rule::Check(&SIGNAL_TO_PIDFD);
        setpriority => Rule::Check(&SETPRIORITY);
        ioprio_set => Rule::Check(&IOPRIO_SET);

        // Pages that the host has set aside, which no group is charged for. Programs take others when there are none.
        mmap => Rule::Check(&MMAP);
        memfd_create => Rule::Check(&MEMFD_CREATE);
        shmget => Rule::Check(&SHMGET);
        // Memory that is locked by a process is its own; that of a segment is counted for the user.
        shmctl => Rule::Check(&SHMCTL);
        // Numerical libraries and databases try these, and go on without.
        mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node => refuse(EPERM);

        // The whole machine's.
        init_module finit_module delete_module kexec_load kexec_file_load reboot => forbid(EPERM);
        swapon swapoff acct quotactl quotactl_fd syslog vhangup => forbid(EPERM);
        clock_settime settimeofday => forbid(EPERM);
        // Also ways to read the clock's corrections.
        adjtimex clock_adjtime => refuse(EPERM);

        // Writes back everything that the machine has in memory, as long as a program likes.
        sync syncfs => refuse(EPERM);
        fadvise64 => Rule::Check(&FADVISE);
        prctl => Rule::Check(&PRCTL);
        fcntl => Rule::Check(&FCNTL);
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

use {arch, rules};

const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Older kernels take the flags as 64 bits, and none has one in the high half. A time namespace cannot be had by `clone`.
const CLONE: Checks =
    Checks { cases: &[(&[masked(0, NAMESPACES, &[0])], Answer::Allow)], otherwise: Answer::Forbid(EPERM) };

/// Pid 1 takes new ones at a reset, and its children a cgroup namespace of their own; a program may not. The kernel looks at all
/// 64 bits.
const UNSHARE: Checks =
    Checks { cases: &[(&[low(0, OF_PID_1), high(0, &[0])], Answer::Allow)], otherwise: Answer::Forbid(EPERM) };

const OF_PID_1: &[u32] = &[libc::CLONE_NEWCGROUP as u32, libc::CLONE_NEWIPC as u32, libc::CLONE_NEWNET as u32];

const FIRST_IS_PID: Checks = Checks { cases: &[(&[low(0, &[1])], Answer::Forbid(EPERM))], otherwise: Answer::Allow };

/// The program of the host's to which core dumps may go is started under a limit of 0 as well, but not under the 1 that
/// pid 1 has set (coredump_pipe in Linux's fs/coredump.c). Who sets the limit asks for what holds anyway, no dump.
const PRLIMIT: Checks = Checks {
    cases: &[
        (&[low(0, &[1])], Answer::Forbid(EPERM)),
        (&[low(2, &[0]), high(2, &[0])], Answer::Allow),
        (&[low(1, &[libc::RLIMIT_CORE]), low(3, &[0]), high(3, &[0])], Answer::Ignore),
        // The old limit would have to be told.
        (&[low(1, &[libc::RLIMIT_CORE])], Answer::Refuse(EPERM)),
    ],
    otherwise: Answer::Allow,
};
const SETRLIMIT: Checks =
    Checks { cases: &[(&[low(0, &[libc::RLIMIT_CORE])], Answer::Ignore)], otherwise: Answer::Allow };

/// Pid 1 wakes up for SIGCHLD.
const SIGNAL_TO_PROCESS: Checks =
    Checks { cases: &[(&[low(0, &[1]), low(1, CHILD)], Answer::Refuse(EPERM))], otherwise: Answer::Allow };
const SIGNAL_TO_THREAD: Checks =
    Checks { cases: &[(&[low(1, &[1]), low(2, CHILD)], Answer::Refuse(EPERM))], otherwise: Answer::Allow };
/// Whose, no filter can see.
const SIGNAL_TO_PIDFD: Checks =
    Checks { cases: &[(&[low(1, CHILD)], Answer::Refuse(EPERM))], otherwise: Answer::Allow };
const CHILD: &[u32] = &[SIGCHLD as u32];

const MMAP: Checks = Checks {
    cases: &[(&[masked(3, libc::MAP_HUGETLB as u32, &[libc::MAP_HUGETLB as u32])], Answer::Refuse(ENOMEM))],
    otherwise: Answer::Allow,
};
const MEMFD_CREATE: Checks = Checks {
    cases: &[(&[masked(1, libc::MFD_HUGETLB, &[libc::MFD_HUGETLB])], Answer::Refuse(ENOMEM))],
    otherwise: Answer::Allow,
};
const SHMGET: Checks = Checks {
    cases: &[(&[masked(2, libc::SHM_HUGETLB as u32, &[libc::SHM_HUGETLB as u32])], Answer::Refuse(ENOMEM))],
    otherwise: Answer::Allow,
};

const SHMCTL: Checks =
    Checks { cases: &[(&[low(1, &[libc::SHM_LOCK as u32])], Answer::Refuse(EPERM))], otherwise: Answer::Allow };

/// Whose pages of a file are dropped from memory reads them from the disk again, and so do all others.
const FADVISE: Checks = Checks {
    cases: &[(&[low(3, &[libc::POSIX_FADV_DONTNEED as u32])], Answer::Refuse(EPERM))],
    otherwise: Answer::Allow,
};

/// Who has a cookie of core scheduling keeps everybody else from the other threads of its processors.
const PRCTL: Checks =
    Checks { cases: &[(&[low(0, &[PR_SCHED_CORE])], Answer::Refuse(EPERM))], otherwise: Answer::Allow };
const PR_SCHED_CORE: u32 = 62;

/// Pid 1 leads the process group 1, and is alone there.
const SETPRIORITY: Checks = Checks {
    cases: &[
        (&[low(0, &[PRIO_PROCESS, PRIO_PGRP]), low(1, &[1])], Answer::Forbid(EPERM)),
        (&[low(0, &[PRIO_USER])], Answer::Forbid(EPERM)),
    ],
    otherwise: Answer::Allow,
};
const PRIO_PROCESS: u32 = 0;
const PRIO_PGRP: u32 = 1;
const PRIO_USER: u32 = 2;

/// As for SETPRIORITY, with numbers that begin at 1.
const IOPRIO_SET: Checks = Checks {
    cases: &[
        (&[low(0, &[IOPRIO_WHO_PROCESS, IOPRIO_WHO_PGRP]), low(1, &[1])], Answer::Forbid(EPERM)),
        (&[low(0, &[IOPRIO_WHO_USER])], Answer::Forbid(EPERM)),
    ],
    otherwise: Answer::Allow,
};
const IOPRIO_WHO_PROCESS: u32 = 1;
const IOPRIO_WHO_PGRP: u32 = 2;
const IOPRIO_WHO_USER: u32 = 3;

/// Whoever opens what somebody has a lease on waits until that is given up, for 45 s. The second is Linux 6.19's. And a
/// descriptor may have its owner sent a signal, whoever that is.
const FCNTL: Checks = Checks {
    cases: &[
        (&[low(1, &[F_SETLEASE, F_SETDELEG])], Answer::Refuse(EPERM)),
        (&[low(1, &[F_SETSIG]), low(2, CHILD)], Answer::Refuse(EPERM)),
    ],
    otherwise: Answer::Allow,
};
const F_SETSIG: u32 = 10;
const F_SETLEASE: u32 = 1024;
const F_SETDELEG: u32 = 1040;

/// The kernel ignores the high half of a request (CVE-2019-10063). A line discipline is a driver that is loaded for
/// whoever asks, and so are those of bridges and VLANs.
const IOCTL: Checks = Checks {
    cases: &[
        (&[low(1, &[TIOCSTI, TIOCLINUX, TIOCSETD])], Answer::Forbid(EPERM)),
        (&[low(1, BRIDGES_AND_VLANS)], Answer::Refuse(EPERM)),
    ],
    otherwise: Answer::Allow,
};
/// SIOCGIFBR, SIOCSIFBR, SIOCGIFVLAN, SIOCSIFVLAN, SIOCBRADDBR, SIOCBRDELBR.
const BRIDGES_AND_VLANS: &[u32] = &[0x8940, 0x8941, 0x8982, 0x8983, 0x89a0, 0x89a1];
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const TIOCSETD: u32 = 0x5423;

/// A question, or what 32-bit builds, sanitizers, debuggers and Lisps set.
const PERSONALITY: Checks = Checks {
    cases: &[
        (&[low(0, &[u32::MAX])], Answer::Allow),
        (&[masked(0, !(PER_LINUX32 | UNAME26 | ADDR_NO_RANDOMIZE), &[0])], Answer::Allow),
    ],
    otherwise: Answer::Refuse(EPERM),
};
const PER_LINUX32: u32 = 0x0008;
const UNAME26: u32 = 0x2_0000;
const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;

/// Families by what they are, and IP by what it carries: SCTP, DCCP, L2TP and others are drivers that are loaded for whoever
/// asks, and so is whatever goes by a type and a protocol that do not fit each other. The kernel's answers in a netlink
/// socket are memory that no group is charged for. A raw socket is refused by the kernel. Libraries ask for what they can do
/// without, as OpenSSL does for AF_ALG.
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
    otherwise: Answer::Refuse(EAFNOSUPPORT),
};
const STREAM: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_STREAM as u32]);
const DGRAM: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_DGRAM as u32]);
const RAW: Condition = masked(1, SOCK_TYPE_MASK, &[libc::SOCK_RAW as u32]);
/// Beside the type an argument has flags, SOCK_CLOEXEC and SOCK_NONBLOCK.
const SOCK_TYPE_MASK: u32 = 0xf;
const IP4: &[u32] = &[libc::AF_INET as u32];
const IP6: &[u32] = &[libc::AF_INET6 as u32];
const IP: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

/// Labels of flows are the whole machine's, few, and stay when their socket has gone.
const SETSOCKOPT: Checks = Checks {
    cases: &[(&[low(1, &[libc::IPPROTO_IPV6 as u32]), low(2, &[IPV6_FLOWLABEL_MGR])], Answer::Refuse(EPERM))],
    otherwise: Answer::Allow,
};
const IPV6_FLOWLABEL_MGR: u32 = 32;

const SOCKETPAIR: Checks =
    Checks { cases: &[(&[low(0, &[libc::AF_UNIX as u32])], Answer::Allow)], otherwise: Answer::Refuse(EAFNOSUPPORT) };

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
