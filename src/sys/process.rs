//! Processes: waiting for them, signaling them, and what they inherit.
//!
//! Invariant: this library names its child processes by their pidfds. A pidfd never comes to mean
//! another process.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::syscall::{raw_syscall, syscall};

/// Whether the kernel started this process with more rights than its caller has: set-id or file
/// capabilities.
pub(crate) fn is_privileged_by_its_file() -> bool {
    // SAFETY: the call reads a value of the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Ends the process without running anything of the program or the C library.
pub(crate) fn exit_at_once(status: i32) -> ! {
    // SAFETY: the call does not return, and runs no code of this process.
    unsafe { libc::_exit(status) }
}

/// A child of this process.
#[derive(Debug)]
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The pidfd of the calling process.
    pub(crate) fn of_self() -> io::Result<OwnedFd> {
        // SAFETY: the call takes numbers only.
        let fd = unsafe { syscall(libc::SYS_pidfd_open, [std::process::id() as usize, 0, 0, 0, 0]) }?;
        // SAFETY: the call returned a new descriptor, which has no other owner.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// The pid of the process of any pidfd, in this process's pid namespace. `ESRCH` if the process
    /// is gone, `InvalidData` if the descriptor is no pidfd.
    pub(crate) fn pid_of(pidfd: impl AsFd) -> io::Result<u32> {
        const MAX_BYTES: u64 = 4096;
        let info = File::open(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
        // A pidfd's is shorter. The size for other kinds of descriptors has no bound.
        let info = io::read_to_string(info.take(MAX_BYTES))?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i64>().ok());
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        u32::try_from(pid).ok().filter(|&pid| pid > 0).ok_or_else(|| Errno::ESRCH.into())
    }

    /// Sends SIGKILL. A process that is already dead is no error.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let arguments = [self.0.as_raw_fd() as usize, libc::SIGKILL as usize, 0, 0, 0];
        // SAFETY: the call takes numbers, and a null pointer in place of a siginfo.
        match unsafe { raw_syscall(libc::SYS_pidfd_send_signal, arguments) } {
            Ok(_) | Err(libc::ESRCH) => Ok(()),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Reaps the process if it has ended. Returns false while it is alive.
    ///
    /// A process that was already reaped is no error: the kernel does that if SIGCHLD is ignored.
    pub(crate) fn try_reap(&self) -> io::Result<bool> {
        self.wait(WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)
    }

    /// Waits for the end of the process, and reaps it.
    pub(crate) fn reap(&self) -> io::Result<()> {
        self.wait(WaitPidFlag::WEXITED).map(drop)
    }

    /// Kills the process, which has this pid, and the process group that it leads. Waits for the
    /// end of those members of the group that are children of this process.
    pub(crate) fn end_group(&self, pid: u32) -> io::Result<()> {
        let group = Pid::from_raw(pid as i32);
        // The pid is not reused before the process is reaped. If the kernel has reaped it already
        // (SIGCHLD is ignored), nothing is left to wait for.
        if waitid(Id::PIDFd(self.0.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)
            == Err(Errno::ECHILD)
        {
            return Ok(());
        }
        match killpg(group, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.kill()?;
        loop {
            // A process killed inside `setpgid` can leave the group without waking a blocked
            // `waitid`, so poll.
            match waitid(Id::PGid(group), WaitPidFlag::WEXITED | WaitPidFlag::__WALL | WaitPidFlag::WNOHANG) {
                Err(Errno::ECHILD) => return self.reap(),
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn wait(&self, flags: WaitPidFlag) -> io::Result<bool> {
        loop {
            match waitid(Id::PIDFd(self.0.as_fd()), flags | WaitPidFlag::__WALL) {
                Ok(WaitStatus::StillAlive) => return Ok(false),
                Ok(_) | Err(Errno::ECHILD) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The pid of a process's parent.
pub(crate) fn parent_of(pid: u32) -> io::Result<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The process's name comes first, in parentheses, and may contain anything.
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    parent.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Gives every signal its default action, and blocks only SIGCHLD, which a signalfd receives.
/// SIGCHLD then reports ends only: a program can be stopped and continued any number of times.
pub(crate) fn reset_signals() -> io::Result<()> {
    // Without the C library, which reserves the first real-time signals and would leave them as
    // inherited.
    const SIGNALS: std::ops::RangeInclusive<usize> = 1..=64;
    for signal in SIGNALS.filter(|signal| ![libc::SIGKILL as usize, libc::SIGSTOP as usize].contains(signal)) {
        let flags = if signal == libc::SIGCHLD as usize { libc::SA_NOCLDSTOP as u64 } else { 0 };
        // The handler, flags, restorer and mask. The struct is the same on x86_64 and aarch64.
        let action = [libc::SIG_DFL as u64, flags, 0, 0];
        let arguments = [signal, action.as_ptr() as usize, 0, size_of::<u64>(), 0];
        // SAFETY: the struct outlives the call, and the pointer for the old action is null. The
        // default action runs no code of this process.
        unsafe { syscall(libc::SYS_rt_sigaction, arguments) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::from(Signal::SIGCHLD)), None)?;
    Ok(())
}

/// Kills every process of this pid namespace except the caller, which must be pid 1. It is no error
/// if there is no other process.
pub(crate) fn kill_all_others() -> io::Result<()> {
    debug_assert_eq!(std::process::id(), 1);
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Replaces the inherited session keyring by a new, empty one. A kernel without keyrings is no
/// error.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: the call takes the operation's number, and a null pointer in place of a name.
    match unsafe { raw_syscall(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0]) } {
        Ok(_) | Err(libc::ENOSYS) => Ok(()),
        Err(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn prctl(operation: libc::c_int, argument: usize) -> io::Result<()> {
    // SAFETY: the operations that this module passes take a number, or a string that ends with a
    // NUL.
    unsafe { syscall(libc::SYS_prctl, [operation as usize, argument, 0, 0, 0]) }.map(drop)
}

/// Sets the name that tools show for this process, at most 15 bytes.
pub(crate) fn set_name(name: &CStr) -> io::Result<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as usize)
}

/// Makes this process untraceable, and makes root the owner of its `/proc` files.
pub(crate) fn deny_tracing() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Drops, for every later child, the privileges that execve could give back: those of set-user-ID
/// files, the capability bounding set, and the capabilities of uid 0. This process keeps its
/// capabilities.
pub(crate) fn forbid_privileges_to_children() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    for capability in 0.. {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // This is past the last capability of this kernel.
            Err(error) if capability > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    const NO_ROOT_AND_LOCKED: usize = 0b11;
    prctl(libc::PR_SET_SECUREBITS, NO_ROOT_AND_LOCKED)
}

/// The monotonic clock, without the C library. `None` if the kernel refuses the call.
pub(crate) fn monotonic_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let arguments = [libc::CLOCK_MONOTONIC as usize, (&raw mut time) as usize, 0, 0, 0];
    // SAFETY: the struct outlives the call.
    unsafe { raw_syscall(libc::SYS_clock_gettime, arguments) }.ok()?;
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Installs a filter that the kernel runs before every system call of the calling thread and of its
/// descendants. It cannot be removed.
///
/// The thread must have `no_new_privs` set, or have CAP_SYS_ADMIN.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    install_filter_here(program).map_err(io::Error::from_raw_os_error)
}

/// [`install_filter`] without the C library.
pub(super) fn install_filter_here(program: &[libc::sock_filter]) -> Result<(), i32> {
    let length = program.len().try_into().map_err(|_| libc::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let arguments = [libc::SECCOMP_SET_MODE_FILTER as usize, 0, (&raw const program) as usize, 0, 0];
    // SAFETY: the struct and its `len` instructions outlive the call, which copies them.
    unsafe { raw_syscall(libc::SYS_seccomp, arguments) }.map(drop)
}

/// The attributes of this process that another process of the same user could change.
pub(crate) fn alterable() -> io::Result<Alterable> {
    // SAFETY: every call below takes numbers, and pointers to results that outlive the call.
    let call = |number, arguments| unsafe { syscall(number, arguments) };
    let mut limits = Vec::new();
    const RESOURCES: usize = 16;
    for resource in 0..RESOURCES {
        let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        call(libc::SYS_prlimit64, [0, resource, 0, (&raw mut limit) as usize, 0])?;
        limits.push((limit.rlim_cur, limit.rlim_max));
    }
    const IOPRIO_WHO_PROCESS: usize = 1;
    let mut cpus = vec![0_u64; 1024];
    let place = cpus.as_mut_ptr() as usize;
    let bytes = call(libc::SYS_sched_getaffinity, [0, size_of_val(&cpus[..]), place, 0, 0])?;
    cpus.truncate(bytes / size_of::<u64>());
    Ok(Alterable {
        limits,
        priority: call(libc::SYS_getpriority, [libc::PRIO_PROCESS as usize, 0, 0, 0, 0])? as i64,
        io_priority: call(libc::SYS_ioprio_get, [IOPRIO_WHO_PROCESS, 0, 0, 0, 0])? as i64,
        scheduling: call(libc::SYS_sched_getscheduler, [0; 5])? as i64,
        cpus,
    })
}

/// See [`alterable`].
pub(crate) struct Alterable {
    /// Soft and hard resource limits, by the kernel's numbers.
    pub(crate) limits: Vec<(u64, u64)>,
    pub(crate) priority: i64,
    pub(crate) io_priority: i64,
    pub(crate) scheduling: i64,
    /// The CPUs that it may run on, one bit each.
    pub(crate) cpus: Vec<u64>,
}

/// How many System V shared memory segments, semaphore sets and message queues there are in this
/// IPC namespace.
pub(crate) fn count_ipc_objects() -> io::Result<[u64; 3]> {
    // Each call fills a struct of 32-bit numbers. `at` is the index of the count in that struct
    // (shmctl(2), semctl(2), msgctl(2)).
    const SHM_INFO: usize = 14;
    const SEM_INFO: usize = 19;
    const MSG_INFO: usize = 12;
    let count = |number, arguments: &dyn Fn(usize) -> [usize; 5], at: usize| {
        let mut numbers = [0_i32; 32];
        // SAFETY: the structs have at most 80 bytes, and the array of 128 bytes outlives the call.
        unsafe { syscall(number, arguments((&raw mut numbers) as usize)) }?;
        Ok::<_, io::Error>(numbers[at] as u64)
    };
    Ok([
        count(libc::SYS_shmctl, &|place| [0, SHM_INFO, place, 0, 0], 0)?,
        count(libc::SYS_semctl, &|place| [0, 0, SEM_INFO, place, 0], 7)?,
        count(libc::SYS_msgctl, &|place| [0, MSG_INFO, place, 0, 0], 0)?,
    ])
}

/// Sets the NIS domain name of this UTS namespace.
pub(crate) fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the call takes a pointer to the name and the name's length.
    unsafe { syscall(libc::SYS_setdomainname, [name.as_ptr() as usize, name.len(), 0, 0, 0]) }.map(drop)
}

/// Makes a system call to see whether the filter refuses it.
#[cfg(test)]
pub(crate) fn attempt(number: libc::c_long, arguments: [usize; 5]) -> Result<usize, i32> {
    const FIRST_UNKNOWN: libc::c_long = 470;
    match number {
        libc::SYS_keyctl => assert_eq!(arguments[0], 9999, "no operation"),
        libc::SYS_clone => {
            assert_ne!(arguments[0] as i32 & libc::CLONE_FS, 0, "with a user namespace it makes no process")
        }
        libc::SYS_clone3 | libc::SYS_io_uring_setup | FIRST_UNKNOWN => assert_eq!(arguments, [0; 5]),
        libc::SYS_ioctl | libc::SYS_setns => assert_eq!(arguments[0], usize::MAX, "no descriptor"),
        libc::SYS_prlimit64 | libc::SYS_socketpair => assert_eq!(arguments[2..], [0; 3], "null pointers"),
        libc::SYS_unshare | libc::SYS_socket => {}
        _ => panic!("call {number} is not known to be harmless"),
    }
    // SAFETY: with the arguments checked above, none of these calls reads or writes memory, or
    // changes anything outside of this process. A new socket stays open.
    unsafe { raw_syscall(number, arguments) }
}
