//! Resource limits of the kernel, as setrlimit(2) sets them.

use crate::wire::RawRlimit;

/// What a resource limit counts (getrlimit(2)).
///
/// The kernel applies each limit to every process of the program separately. The exception is
/// [`Processes`](Self::Processes), which counts all processes and threads of the container's user
/// id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// CPU time, in seconds. The kernel sends `SIGXCPU` at the soft limit and `SIGKILL` at the hard
    /// limit.
    CpuSeconds,
    /// The largest file that the program may write, in bytes. A larger write fails with `SIGXFSZ`
    /// or `EFBIG`.
    FileSize,
    /// The data segment and private writable mappings, in bytes.
    Data,
    /// The main thread's stack, in bytes.
    Stack,
    /// Processes and threads of the container's user id.
    Processes,
    /// File descriptors: one more than the highest number.
    OpenFiles,
    /// Address space, in bytes. This limit breaks programs that reserve much more than they use:
    /// Go, the JVM, V8.
    AddressSpace,
}

impl Resource {
    /// The kernel's number for this resource, which is the same on x86_64 and aarch64.
    fn number(self) -> u32 {
        let number = match self {
            Self::CpuSeconds => libc::RLIMIT_CPU,
            Self::FileSize => libc::RLIMIT_FSIZE,
            Self::Data => libc::RLIMIT_DATA,
            Self::Stack => libc::RLIMIT_STACK,
            Self::Processes => libc::RLIMIT_NPROC,
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::AddressSpace => libc::RLIMIT_AS,
        };
        #[allow(clippy::unnecessary_cast, reason = "the C type depends on the C library")]
        let number = number as u32;
        number
    }
}

/// One resource limit: a soft value that the program may raise, up to a hard one that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl From<Rlimit> for RawRlimit {
    fn from(Rlimit { resource, soft, hard }: Rlimit) -> Self {
        Self { resource: resource.number(), soft, hard }
    }
}
