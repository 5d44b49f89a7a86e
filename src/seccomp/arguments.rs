//! What the filter answers where the arguments of a call decide.

mod files;
mod memory;
mod network;
mod processes;

pub(crate) use files::{Direct, FADVISE, IOCTL, UNCACHED};
pub(crate) use memory::{MADVISE, MEMFD_CREATE, MMAP, MSYNC, SHMCTL, SHMGET};
pub(crate) use network::{SETSOCKOPT, SOCKET, SOCKETPAIR};
pub(crate) use processes::{
    CLONE, FIRST_IS_PID, IOPRIO_SET, PERSONALITY, PRCTL, PRLIMIT, SETNS, SETPRIORITY, SETRLIMIT, SIGNAL_TO_PIDFD,
    SIGNAL_TO_PROCESS, SIGNAL_TO_THREAD, UNSHARE,
};
