//! Calls on memory.

use libc::{EINVAL, ENOMEM, EPERM};

use crate::seccomp::rule::{Answer, Checks, low, masked};

pub(crate) const MMAP: Checks = Checks {
    cases: &[(&[masked(3, libc::MAP_HUGETLB as u32, &[libc::MAP_HUGETLB as u32])], Answer::Refuse(ENOMEM))],
    default: Answer::Allow,
};

pub(crate) const MEMFD_CREATE: Checks = Checks {
    cases: &[(&[masked(1, libc::MFD_HUGETLB, &[libc::MFD_HUGETLB])], Answer::Refuse(ENOMEM))],
    default: Answer::Allow,
};

pub(crate) const SHMGET: Checks = Checks {
    cases: &[(&[masked(2, libc::SHM_HUGETLB as u32, &[libc::SHM_HUGETLB as u32])], Answer::Refuse(ENOMEM))],
    default: Answer::Allow,
};

pub(crate) const SHMCTL: Checks =
    Checks { cases: &[(&[low(1, &[libc::SHM_LOCK as u32])], Answer::Refuse(EPERM))], default: Answer::Allow };

/// Programs also ask with `msync` whether an address is mapped, without this flag.
pub(crate) const MSYNC: Checks = Checks {
    cases: &[(&[masked(2, libc::MS_SYNC as u32, &[libc::MS_SYNC as u32])], Answer::Ignore)],
    default: Answer::Allow,
};

/// MADV_COLD and MADV_PAGEOUT drop pages of a file as [`FADVISE`](super::FADVISE) says, if the
/// program owns the file or may write to it.
pub(crate) const MADVISE: Checks = Checks {
    cases: &[(
        &[low(2, &[libc::MADV_MERGEABLE as u32, libc::MADV_COLD as u32, libc::MADV_PAGEOUT as u32])],
        Answer::Refuse(EINVAL),
    )],
    default: Answer::Allow,
};
