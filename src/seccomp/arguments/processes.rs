//! Calls on processes: namespaces, limits, signals, priorities.
//!
//! Pid 1 may have the program's user id.

use libc::{EINVAL, EPERM, SIGCHLD};

use crate::seccomp::rule::{Answer, Checks, high, low, masked};

const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Older kernels take 64 bits of flags, but no flag is in the high half. `clone` cannot make a time
/// namespace.
pub(crate) const CLONE: Checks =
    Checks { cases: &[(&[masked(0, NAMESPACES, &[0])], Answer::Allow)], default: Answer::Forbid(EPERM) };

/// Pid 1 unshares these namespaces at a reset and for a run beside another one, and its children
/// unshare a cgroup namespace. The kernel refuses them to programs, and looks at all 64 bits of the
/// flags.
pub(crate) const UNSHARE: Checks =
    Checks { cases: &[(&[low(0, OF_PID_1), high(0, &[0])], Answer::Allow)], default: Answer::Forbid(EPERM) };
const OF_PID_1: &[u32] =
    &[libc::CLONE_NEWCGROUP as u32, libc::CLONE_NEWIPC as u32, libc::CLONE_NEWNET as u32, libc::CLONE_NEWPID as u32];

/// Pid 1 goes back to its own pid namespace. The kernel refuses that to programs, which have no
/// capability. The type of namespace is an `int`.
pub(crate) const SETNS: Checks =
    Checks { cases: &[(&[low(1, &[libc::CLONE_NEWPID as u32])], Answer::Allow)], default: Answer::Forbid(EPERM) };

pub(crate) const FIRST_IS_PID: Checks =
    Checks { cases: &[(&[low(0, &[1])], Answer::Forbid(EPERM))], default: Answer::Allow };

/// The kernel starts the host's core dump handler even under a limit of 0, but not under the limit
/// of 1 that pid 1 has set (`coredump_pipe` in Linux's fs/coredump.c), so the limit must stay 1. A
/// program that sets it wants no dump, and there is none.
pub(crate) const PRLIMIT: Checks = Checks {
    cases: &[
        (&[low(0, &[1])], Answer::Forbid(EPERM)),
        (&[low(2, &[0]), high(2, &[0])], Answer::Allow),
        (&[low(1, CORE), low(3, &[0]), high(3, &[0])], Answer::Ignore),
        // The filter cannot return the old limit.
        (&[low(1, CORE)], Answer::Refuse(EPERM)),
    ],
    default: Answer::Allow,
};

pub(crate) const SETRLIMIT: Checks = Checks { cases: &[(&[low(0, CORE)], Answer::Ignore)], default: Answer::Allow };

#[allow(clippy::unnecessary_cast, reason = "the C type depends on the C library")]
const CORE: &[u32] = &[libc::RLIMIT_CORE as u32];

/// Pid 1 wakes up at SIGCHLD.
pub(crate) const SIGNAL_TO_PROCESS: Checks =
    Checks { cases: &[(&[low(0, &[1]), low(1, CHILD)], Answer::Refuse(EPERM))], default: Answer::Allow };

pub(crate) const SIGNAL_TO_THREAD: Checks =
    Checks { cases: &[(&[low(1, &[1]), low(2, CHILD)], Answer::Refuse(EPERM))], default: Answer::Allow };

/// The filter cannot see which process the pidfd is for.
pub(crate) const SIGNAL_TO_PIDFD: Checks =
    Checks { cases: &[(&[low(1, CHILD)], Answer::Refuse(EPERM))], default: Answer::Allow };
pub(crate) const CHILD: &[u32] = &[SIGCHLD as u32];

/// A process with a core scheduling cookie keeps all other processes off the sibling threads of its
/// CPU cores. A kernel thread merges equal pages, and the time of a write tells whether another
/// container had an equal page.
pub(crate) const PRCTL: Checks = Checks {
    cases: &[
        (&[low(0, &[PR_SCHED_CORE])], Answer::Refuse(EPERM)),
        (&[low(0, &[PR_SET_MEMORY_MERGE])], Answer::Refuse(EINVAL)),
    ],
    default: Answer::Allow,
};
const PR_SCHED_CORE: u32 = 62;
const PR_SET_MEMORY_MERGE: u32 = 67;

/// Pid 1 is the only process of process group 1.
pub(crate) const SETPRIORITY: Checks = Checks {
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
pub(crate) const IOPRIO_SET: Checks = Checks {
    cases: &[
        (&[low(0, &[IOPRIO_WHO_PROCESS, IOPRIO_WHO_PGRP]), low(1, &[1])], Answer::Forbid(EPERM)),
        (&[low(0, &[IOPRIO_WHO_USER])], Answer::Forbid(EPERM)),
    ],
    default: Answer::Allow,
};
const IOPRIO_WHO_PROCESS: u32 = 1;
const IOPRIO_WHO_PGRP: u32 = 2;
const IOPRIO_WHO_USER: u32 = 3;

/// Allowed are a query, and what 32-bit builds, sanitizers, debuggers and Lisps set.
pub(crate) const PERSONALITY: Checks = Checks {
    cases: &[
        (&[low(0, &[u32::MAX])], Answer::Allow),
        (&[masked(0, !(PER_LINUX32 | UNAME26 | ADDR_NO_RANDOMIZE), &[0])], Answer::Allow),
    ],
    default: Answer::Refuse(EPERM),
};
const PER_LINUX32: u32 = 0x0008;
const UNAME26: u32 = 0x2_0000;
const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;
