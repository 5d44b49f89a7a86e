//! A command's own filter: the system calls that a program may make at all.
//!
//! Invariant: it only takes away. It is installed upon the container's filter by the program's own process, right before it
//! executes, and the stricter answer counts.

use std::fmt;
use std::str::FromStr;

use syscalls::Sysno;

use super::table::NATIVE;
use super::{ARCHITECTURE, Instruction, Leaf, NUMBER, Segment, finish, jump, load, search};
use crate::error::{Error, Result};

/// The only system calls that a program may make: [`Command::syscalls`](crate::Command::syscalls).
///
/// Installing it costs each run 100 to 200 µs, which [`ContainerBuilder::filter`](crate::ContainerBuilder::filter) does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Syscalls(Vec<(u16, u8, u8, u32)>);

/// What becomes of a system call that is not among those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Otherwise {
    /// It answers this errno.
    Errno(i32),
    /// It ends the process with SIGSYS; where that is the run's first the verdict is
    /// [`ForbiddenSyscall`](crate::Verdict::ForbiddenSyscall).
    Kill,
}

impl Syscalls {
    /// What a program needs that computes: memory, the files that it may open, its streams, clocks. No further process or
    /// thread, no socket, no change of files' names or owners. C, C++, Rust, and Python without threads run so; Java, Go and
    /// node do not. Any other call ends the process.
    pub fn strict() -> Self {
        let own = if cfg!(target_arch = "x86_64") { STRICT_ON_X86_64 } else { &[] };
        let numbers = STRICT.iter().chain(own).filter_map(|name| Sysno::from_str(name).ok());
        Self::allow(numbers, Otherwise::Kill)
    }

    /// These, by the kernel's names. What starts a program must be among them: `execve`, or `execveat` for one by
    /// descriptor.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a name that this architecture does not have.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>, otherwise: Otherwise) -> Result<Self> {
        let number = |name| Sysno::from_str(name).map_err(|()| Error::invalid(format!("no such system call: {name}")));
        let numbers = names.into_iter().map(number).collect::<Result<Vec<_>>>()?;
        Ok(Self::allow(numbers.into_iter(), otherwise))
    }

    /// A program of classic BPF, as seccomp(2) takes it: for each instruction its code, the jumps where it holds and where it
    /// does not, and its constant.
    pub fn bpf(instructions: impl IntoIterator<Item = (u16, u8, u8, u32)>) -> Self {
        Self(instructions.into_iter().collect())
    }

    fn allow(numbers: impl Iterator<Item = Sysno>, otherwise: Otherwise) -> Self {
        let refused = match otherwise {
            Otherwise::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA),
            Otherwise::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        };
        let mut numbers: Vec<_> = numbers.map(|number| number as u32).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut segments = vec![Segment { first: 0, leaf: Leaf::Return(refused) }];
        for number in numbers {
            match segments.last_mut() {
                // The one after the last.
                Some(last) if last.first == number => last.leaf = Leaf::Return(libc::SECCOMP_RET_ALLOW),
                _ => segments.push(Segment { first: number, leaf: Leaf::Return(libc::SECCOMP_RET_ALLOW) }),
            }
            segments.push(Segment { first: number + 1, leaf: Leaf::Return(refused) });
        }
        let mut code = vec![load(ARCHITECTURE), jump(libc::BPF_JEQ, NATIVE.audit, 1, 0), finish(refused), load(NUMBER)];
        code.extend(search(&merged(segments), false));
        Self(code.iter().map(|it| (it.code, it.jt, it.jf, it.k)).collect())
    }

    pub(crate) fn instructions(&self) -> &[(u16, u8, u8, u32)] {
        &self.0
    }
}

/// Neighbours that answer the same as one.
fn merged(segments: Vec<Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in segments {
        let is_same = match (merged.last().map(|last| &last.leaf), &segment.leaf) {
            (Some(Leaf::Return(before)), Leaf::Return(after)) => before == after,
            _ => false,
        };
        if !is_same {
            merged.push(segment);
        }
    }
    merged
}

impl fmt::Debug for Syscalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Syscalls({} instructions)", self.0.len())
    }
}

/// As the kernel takes it.
pub(crate) fn program(instructions: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
    instructions.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect()
}

const STRICT: &[&str] = &[
    // The program itself, and its end.
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
    // Files that are there, and streams.
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
    // Signals to itself.
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "tgkill",
    "rt_sigpending",
    "rt_sigtimedwait",
    // What the C library and runtimes set up, and locks without threads.
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
    // Who and when.
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

/// Older forms, which aarch64 does not have.
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
