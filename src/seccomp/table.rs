//! The table of what a container's filter refuses, and how.
//!
//! Invariant: this is the only list. A call that it does not name is allowed, up to [`LAST`]. A
//! number above `LAST`, or of no call, gets `ENOSYS`.

use libc::{ENOSYS, EOPNOTSUPP, EPERM};

use super::arguments::*;
use super::rule::{Answer, Rule, forbid, refuse};

/// The last call that this table considers: Linux 6.18's `file_setattr`.
const LAST: u32 = 469;

/// An architecture's call numbers.
#[derive(Debug)]
pub(super) struct Arch {
    /// The architecture's value in `struct seccomp_data`.
    pub(super) audit: u32,
    pub(super) clone3: u32,
    pub(super) chroot: u32,
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
    chroot: syscalls::x86_64::Sysno::chroot as u32,
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
    chroot: syscalls::aarch64::Sysno::chroot as u32,
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
        setns => Rule::Check(&SETNS);
        pivot_root chroot => forbid(EPERM);

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
