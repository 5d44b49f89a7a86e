//! A command's own filter: the only system calls that a program may make.
//!
//! Invariant: it only restricts. The program's process installs it in addition to the container's
//! filter, right before it executes the program, and the kernel takes the stricter of the two
//! answers.

use std::fmt;
use std::str::FromStr;

use syscalls::Sysno;

use super::program::{Instruction, Leaf, Segment, filter, merged};
use super::table::NATIVE;
use crate::error::{Error, Result};

/// The only system calls that a program may make: [`Command::syscalls`](crate::Command::syscalls).
///
/// Installing the list takes each run 100 to 200 µs, unlike
/// [`ContainerBuilder::filter`](crate::ContainerBuilder::filter), which is installed once.
///
/// ```
/// # fn main() -> cellblock::Result<()> {
/// use cellblock::Command;
/// use cellblock::seccomp::{DefaultAction, Syscalls};
///
/// // A program that computes: no further process, thread or socket.
/// let mut command = Command::new("./solution");
/// command.syscalls(Syscalls::strict());
///
/// // A list by name, for a static program. Any other call fails with EACCES.
/// let names = ["execve", "brk", "mmap", "read", "write", "exit_group"];
/// command.syscalls(Syscalls::only(names, DefaultAction::Errno(13))?);
///
/// // Names are checked at once.
/// assert!(Syscalls::only(["no_such_call"], DefaultAction::Kill).is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Syscalls(Vec<(u16, u8, u8, u32)>);

/// What happens at a system call that is not in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultAction {
    /// The call fails with this error number.
    Errno(i32),
    /// The process is killed with SIGSYS. If it is the run's first process, the verdict is
    /// [`ForbiddenSyscall`](crate::Verdict::ForbiddenSyscall).
    Kill,
}

impl Syscalls {
    /// What a program needs that only computes: memory, files that it may open, its streams,
    /// clocks. Any other call kills the process.
    ///
    /// The list has no calls for further processes or threads, for sockets, or for changing the
    /// names or owners of files. C, C++, Rust, and Python without threads run with it. Java, Go and
    /// Node.js do not.
    pub fn strict() -> Self {
        let own = if cfg!(target_arch = "x86_64") { STRICT_ON_X86_64 } else { &[] };
        let numbers = STRICT.iter().chain(own).filter_map(|name| Sysno::from_str(name).ok());
        Self::allow(numbers, DefaultAction::Kill)
    }

    /// The calls with these names, as the kernel has them. The call that starts the program must be
    /// among them: `execve`, or `execveat` for [`Command::from_fd`](crate::Command::from_fd).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a name that this
    /// architecture does not have.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>, default: DefaultAction) -> Result<Self> {
        let number = |name| Sysno::from_str(name).map_err(|()| Error::invalid(format!("no such system call: {name}")));
        let numbers = names.into_iter().map(number).collect::<Result<Vec<_>>>()?;
        Ok(Self::allow(numbers.into_iter(), default))
    }

    /// A program of classic BPF, as seccomp(2) takes it. Each instruction has its code, the number
    /// of instructions to skip if its comparison holds, the same if it does not, and its constant.
    pub fn bpf(instructions: impl IntoIterator<Item = (u16, u8, u8, u32)>) -> Self {
        Self(instructions.into_iter().collect())
    }

    fn allow(numbers: impl Iterator<Item = Sysno>, default: DefaultAction) -> Self {
        let refused = match default {
            DefaultAction::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA),
            DefaultAction::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        };
        let code = filter(NATIVE.audit, refused, &segments(numbers, refused), &|_| unreachable!("no arguments"));
        Self(code.iter().map(|it| (it.code, it.jt, it.jf, it.k)).collect())
    }

    pub(crate) fn instructions(&self) -> &[(u16, u8, u8, u32)] {
        &self.0
    }
}

/// All call numbers: `numbers` are allowed, and the others get the action `refused`.
fn segments(numbers: impl Iterator<Item = Sysno>, refused: u32) -> Vec<Segment> {
    let mut numbers: Vec<_> = numbers.map(|number| number as u32).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut segments = vec![Segment { first: 0, leaf: Leaf::Return(refused) }];
    for number in numbers {
        // The segment after the previous number is empty if that number is the one before this.
        segments.pop_if(|last| last.first == number);
        segments.push(Segment { first: number, leaf: Leaf::Return(libc::SECCOMP_RET_ALLOW) });
        segments.push(Segment { first: number + 1, leaf: Leaf::Return(refused) });
    }
    merged(segments)
}

impl fmt::Debug for Syscalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Syscalls({} instructions)", self.0.len())
    }
}

/// Instructions as the kernel takes them.
pub(crate) fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
    instructions.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect()
}

const STRICT: &[&str] = &[
    // The program's start and end.
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "restart_syscall",
    // Memory.
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "membarrier",
    // Existing files, and streams.
    "openat",
    "close",
    "close_range",
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "lseek",
    "fstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "faccessat",
    "faccessat2",
    "readlinkat",
    "getcwd",
    "getdents64",
    "dup",
    "dup3",
    "fcntl",
    "ioctl",
    "ppoll",
    "pselect6",
    "fadvise64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "pipe2",
    // The program's own signals.
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "tgkill",
    "rt_sigpending",
    "rt_sigtimedwait",
    // Set-up of the C library and of runtimes, and locks without threads.
    "set_tid_address",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "futex",
    "prlimit64",
    "getrandom",
    "uname",
    "sysinfo",
    "sched_getaffinity",
    "sched_yield",
    "prctl",
    // Identity and time.
    "getpid",
    "gettid",
    "getppid",
    "getpgid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getgroups",
    "umask",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "times",
    "getrusage",
    "setitimer",
    "getitimer",
];

/// Older forms of these calls, which aarch64 does not have.
const STRICT_ON_X86_64: &[&str] = &[
    "open",
    "stat",
    "lstat",
    "access",
    "readlink",
    "dup2",
    "pipe",
    "poll",
    "select",
    "getrlimit",
    "time",
    "arch_prctl",
    "alarm",
    "getpgrp",
];
