//! The table of what a container's filter refuses, and how.
//!
//! Invariant: this is the only list. A call that it does not name is allowed, up to [`LAST`]. A
//! number above `LAST`, or of no call, gets `ENOSYS`.

use libc::{EAFNOSUPPORT, ENOMEM, ENOSYS, EPERM, EPROTONOSUPPORT, SIGCHLD};

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
    calls: arch!(x86_64:
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
    calls: arch!(aarch64:),
    unknown: &[
        // The second range includes the calls that only 32-bit kernels have.
        (244, 259, Answer::Refuse(ENOSYS)),
        (295, 423, Answer::Refuse(ENOSYS)),
        (LAST + 1, u32::MAX, Answer::Refuse(ENOSYS)),
    ],
};

/// The calls that are not simply allowed: those that both architectures have, and an architecture's
/// own.
macro_rules! arch {
    ($arch:ident: $($own:tt)*) => { rules!($arch:
        // Much kernel code, and programs expect that it may be absent. libuv and others try it.
        io_uring_setup io_uring_enter io_uring_register => refuse(ENOSYS);
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

/// A process with a core scheduling cookie keeps all other processes off the sibling threads of its
/// CPU cores.
const PRCTL: Checks = Checks { cases: &[(&[low(0, &[PR_SCHED_CORE])], Answer::Refuse(EPERM))], default: Answer::Allow };
const PR_SCHED_CORE: u32 = 62;

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

/// A process that opens a leased file waits up to 45 s for the lease to be given up. F_SETDELEG is
/// Linux 6.19's. F_SETSIG makes a descriptor send a signal to its owner, which may be any process.
const FCNTL: Checks = Checks {
    cases: &[
        (&[low(1, &[F_SETLEASE, F_SETDELEG])], Answer::Refuse(EPERM)),
        (&[low(1, &[F_SETSIG]), low(2, CHILD)], Answer::Refuse(EPERM)),
    ],
    default: Answer::Allow,
};
const F_SETSIG: u32 = 10;
const F_SETLEASE: u32 = 1024;
const F_SETDELEG: u32 = 1040;

/// The kernel ignores the high half of a request (CVE-2019-10063). Setting a line discipline loads
/// a driver on demand, and so do requests about bridges and VLANs.
const IOCTL: Checks = Checks {
    cases: &[
        (&[low(1, &[TIOCSTI, TIOCLINUX, TIOCSETD])], Answer::Forbid(EPERM)),
        (&[low(1, BRIDGES_AND_VLANS)], Answer::Refuse(EPERM)),
    ],
    default: Answer::Allow,
};
/// SIOCGIFBR, SIOCSIFBR, SIOCGIFVLAN, SIOCSIFVLAN, SIOCBRADDBR, SIOCBRDELBR.
const BRIDGES_AND_VLANS: &[u32] = &[0x8940, 0x8941, 0x8982, 0x8983, 0x89a0, 0x89a1];
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

/// Flow labels belong to the whole machine, are few, and outlive their socket.
const SETSOCKOPT: Checks = Checks {
    cases: &[(&[low(1, &[libc::IPPROTO_IPV6 as u32]), low(2, &[IPV6_FLOWLABEL_MGR])], Answer::Refuse(EPERM))],
    default: Answer::Allow,
};
const IPV6_FLOWLABEL_MGR: u32 = 32;

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
