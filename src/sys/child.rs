//! The untrusted program's process, from clone to exec, and the wait for its end.
//!
//! The child walks a prepared list of system calls, on a stack of its own. It does so in the init's
//! memory, which is fastest, and the init is suspended until the child has executed (a vfork). The
//! suspension also keeps the init alive if a run's group has no memory left for the execution: the
//! OOM killer kills all processes that share a memory, but it does not choose a child in the middle
//! of a vfork. A child that may have to wait for something, or that another program could stop,
//! gets a copy of the memory instead, and the init goes on.
//!
//! Invariant: what the child reads stays valid and unchanged until the child is reaped.
//! [`Children`] owns both the plans and the wait, so no caller can break that. The child makes raw
//! system calls only: it does not allocate, lock, panic or touch errno.

use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::clone::{Stack, clone_into, exit_now};
use super::process::{install_filter_here, monotonic_time};
use super::reaper;
use super::syscall::raw_syscall;

/// One system call of the child, or a few.
#[derive(Debug)]
pub(crate) enum Op {
    /// Waits until it has read a byte here. The end of file is a refusal: ECANCELED.
    PassGate(i32),
    /// Enters the group with this `tasks` file. A thread that moves itself does not wait for an RCU
    /// grace period.
    EnterGroup(i32),
    NewCgroupNamespace,
    /// Enforces this Landlock ruleset.
    RestrictFiles(i32),
    /// The mask has one bit for each CPU.
    SetAffinity(Vec<u64>),
    StartSession,
    /// Opens a file beneath a directory for reading and writing, as descriptor `to`.
    Open {
        dir: i32,
        path: &'static CStr,
        to: i32,
    },
    /// Makes descriptor `to` a copy of `from` that stays open across the exec.
    Place {
        from: i32,
        to: i32,
    },
    /// Makes this terminal the controlling terminal of the session.
    TakeTerminal(i32),
    /// Closes the descriptors with these numbers that are open.
    Close {
        first: u32,
        last: u32,
    },
    ChangeDirectory(CString),
    Limit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    SetIds {
        uid: u32,
        gid: u32,
    },
    DropCapabilities,
    ClearSignalMask,
    InstallFilter(Vec<libc::sock_filter>),
    Exec {
        image: Image,
        args: Vector,
        env: Vector,
    },
}

/// What an [`Op::Exec`] executes.
#[derive(Debug)]
pub(crate) enum Image {
    /// The first of these files that exists, as for execvp(3), but never as a shell script.
    FirstOf(Vec<CString>),
    /// The file that this descriptor is open on. The descriptor closes during the exec, so the
    /// interpreter of a script could not open the script: ENOEXEC.
    Descriptor(i32),
}

/// Strings as execve(2) takes them.
#[derive(Debug)]
pub(crate) struct Vector {
    _bytes: Vec<u8>,
    pointers: Vec<*const c_char>,
}

impl Vector {
    /// From strings that each end with a NUL. A last string without a NUL is left out.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let ended = bytes.split_inclusive(|&byte| byte == 0).filter(|string| string.ends_with(&[0]));
        let pointers = ended.map(|string| string.as_ptr().cast()).chain([ptr::null()]).collect();
        // The pointers are into the heap, so moving the vector does not invalidate them.
        Self { _bytes: bytes, pointers }
    }
}

/// How a child is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildOptions<'a> {
    /// The group of cgroup v2 that the child starts in. `None`: the caller's own group.
    pub(crate) group: Option<BorrowedFd<'a>>,
    /// Whether the child may wait for something before it executes, or be stopped by a program that
    /// has its id. If so, it gets a copy of the memory. Otherwise the caller is suspended until the
    /// child has executed or ended.
    pub(crate) may_wait: bool,
    pub(crate) wants_pidfd: bool,
}

/// A child that has been started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// If the options ask for it.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// The result of an attempt to reap a child.
#[derive(Debug)]
pub(crate) enum Reaped<T> {
    /// A child that [`Children::start`] has started. If a step of it failed, the program never ran.
    Program {
        pid: i32,
        status: i32,
        usage: Rusage,
        outcome: Outcome<T>,
    },
    /// A process that a program left behind, or a reaper.
    Other {
        pid: i32,
        usage: Rusage,
    },
    /// There are children, but none has ended.
    Alive,
    NoChild,
}

/// What a child reports of its steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) failure: Option<(T, i32)>,
    /// When the child last called an exec, by the monotonic clock.
    pub(crate) executed: Option<Duration>,
}

/// The usage of a process and of the children that it waited for, from wait4(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rusage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) peak_bytes: u64,
}

/// The init's children: its programs, and the processes that they leave.
#[derive(Debug)]
pub(crate) struct Children<T> {
    /// Only one child at a time uses it: a child in the init's memory has left it when
    /// [`start`](Self::start) returns, and any other child has a copy.
    stack: Stack,
    programs: ManuallyDrop<Vec<Program<T>>>,
    /// For the next programs.
    spare: Vec<SharedCell<Outcome<T>>>,
}

/// A program that has not been reaped.
#[derive(Debug)]
struct Program<T> {
    pid: i32,
    _plan: Box<Plan<T>>,
    outcome: SharedCell<Outcome<T>>,
}

#[derive(Debug)]
struct Plan<T> {
    ops: Vec<(T, Op)>,
    outcome: *mut Outcome<T>,
}

impl<T: Copy> Children<T> {
    pub(crate) fn new() -> io::Result<Self> {
        let spare = vec![SharedCell::new(Outcome { failure: None, executed: None })?];
        Ok(Self { stack: Stack::new()?, programs: ManuallyDrop::new(Vec::with_capacity(1)), spare })
    }

    /// Starts a process that carries out these steps, each under the caller's name for it. The last
    /// step should be [`Op::Exec`]: a process that gets past its last step exits.
    pub(crate) fn start(&mut self, ops: Vec<(T, Op)>, options: ChildOptions<'_>) -> io::Result<Started> {
        let ChildOptions { group, may_wait, wants_pidfd } = options;
        let nothing = Outcome { failure: None, executed: None };
        let outcome = match self.spare.pop() {
            Some(outcome) => outcome,
            None => SharedCell::new(nothing)?,
        };
        // No child writes to the cell now: its last one was reaped.
        outcome.set(nothing);
        let mut pidfd = -1;
        let memory = if may_wait { 0 } else { libc::CLONE_VM | libc::CLONE_VFORK };
        let flags = memory | if wants_pidfd { libc::CLONE_PIDFD } else { 0 };
        let plan = Box::new(Plan { ops, outcome: outcome.as_ptr() });
        let argument = (&raw const *plan).cast_mut().cast::<c_void>();
        // With shared memory, the kernel returns here only once the child has executed or ended.
        let pid = if let Some(group) = group {
            // SAFETY: no other child uses the stack. `programs` keeps the plan and the outcome
            // until this child is reaped. `child` keeps this module's invariant.
            unsafe { clone_into(group.as_raw_fd(), child::<T>, &self.stack, flags, argument, &raw mut pidfd) }?
        } else {
            // SAFETY: as for the other branch.
            let pid =
                unsafe { libc::clone(child::<T>, self.stack.top(), flags | libc::SIGCHLD, argument, &raw mut pidfd) };
            if pid < 0 {
                return Err(io::Error::last_os_error());
            }
            pid
        };
        self.programs.push(Program { pid, _plan: plan, outcome });
        // SAFETY: with `wants_pidfd` the clone had CLONE_PIDFD, so this is a new descriptor without
        // another owner.
        let pidfd = wants_pidfd.then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
        Ok(Started { pid, pidfd })
    }

    /// Starts the reaper of the pid namespace that this process has just unshared
    /// for its children. Returns the reaper's pid.
    pub(crate) fn start_reaper(&self) -> io::Result<i32> {
        reaper::start(&self.stack)
    }

    /// Reaps one child that has ended, if there is one.
    pub(crate) fn reap(&mut self) -> io::Result<Reaped<T>> {
        self.wait_for(-1)
    }

    /// Reaps the child with this pid, if it has ended.
    pub(crate) fn reap_one(&mut self, pid: i32) -> io::Result<Reaped<T>> {
        self.wait_for(pid)
    }

    fn wait_for(&mut self, which: i32) -> io::Result<Reaped<T>> {
        let mut status = 0;
        // SAFETY: all zeros is a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let pid = loop {
            // SAFETY: both pointers are valid for writes.
            let pid = unsafe { libc::wait4(which, &raw mut status, libc::WNOHANG | libc::__WALL, &raw mut usage) };
            // A child can make its parent its tracer (PTRACE_TRACEME). wait4 then reports its stops
            // too, which are no ends.
            if pid <= 0 || !libc::WIFSTOPPED(status) {
                break pid;
            }
        };
        if pid < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ECHILD) { Ok(Reaped::NoChild) } else { Err(error) };
        }
        if pid == 0 {
            return Ok(Reaped::Alive);
        }
        let usage = Rusage {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            peak_bytes: usage.ru_maxrss as u64 * 1024,
        };
        let Some(place) = self.programs.iter().position(|program| program.pid == pid) else {
            return Ok(Reaped::Other { pid, usage });
        };
        let Program { outcome: cell, .. } = self.programs.swap_remove(place);
        let outcome = cell.get();
        self.spare.push(cell);
        Ok(Reaped::Program { pid, status, usage, outcome })
    }
}

/// The pid of a child that has ended and is not reaped. `Ok(None)`: every child is alive. `ECHILD`:
/// there is no child.
pub(crate) fn next_ended() -> io::Result<Option<i32>> {
    loop {
        // SAFETY: all zeros is a valid siginfo.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        // SAFETY: the pointer is valid for writes.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has filled in the pid, or left it at 0.
        let pid = unsafe { info.si_pid() };
        match info.si_code {
            _ if pid == 0 => return Ok(None),
            libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => return Ok(Some(pid)),
            // A stop of a child that has made this process its tracer. It would hide the other
            // children until it is taken.
            _ => {
                let flags = libc::WSTOPPED | libc::WNOHANG | libc::__WALL;
                // SAFETY: the pointer is valid for writes. The child may have gone on or ended:
                // then there is nothing to take.
                unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, flags) };
            }
        }
    }
}

impl<T> Drop for Children<T> {
    fn drop(&mut self) {
        // A program that has not been reaped may still use its plan and its outcome: leak them.
        if self.programs.is_empty() {
            // SAFETY: this value does not use the list again.
            unsafe { ManuallyDrop::drop(&mut self.programs) };
        }
    }
}

/// A value in a memory mapping that children share with their parent, also those with a copy of the
/// memory.
#[derive(Debug)]
struct SharedCell<T>(ptr::NonNull<T>);

impl<T: Copy> SharedCell<T> {
    fn new(value: T) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: this makes a new mapping, at an address that the kernel chooses and that is
        // page-aligned.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let cell = Self(ptr::NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?);
        cell.set(value);
        Ok(cell)
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    fn get(&self) -> T {
        // SAFETY: `new` has mapped and written the value. `Children` calls this only when no child
        // can write to it.
        unsafe { self.0.read_volatile() }
    }

    fn set(&self, value: T) {
        // SAFETY: as for `get`.
        unsafe { self.0.write_volatile(value) }
    }
}

impl<T> Drop for SharedCell<T> {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and only this value refers to it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}

extern "C" fn child<T: Copy>(plan: *mut c_void) -> i32 {
    // SAFETY: `start` passes a plan that lives until this process is reaped, and that nothing
    // changes.
    let plan = unsafe { &*plan.cast::<Plan<T>>() };
    for (name, op) in &plan.ops {
        if matches!(op, Op::Exec { .. }) {
            // SAFETY: the outcome stays mapped while there is a child, and is read only after this
            // process is reaped.
            unsafe { (&raw mut (*plan.outcome).executed).write_volatile(monotonic_time()) };
        }
        if let Err(errno) = op.carry_out() {
            // SAFETY: as for `executed`.
            unsafe { (&raw mut (*plan.outcome).failure).write_volatile(Some((*name, errno))) };
            break;
        }
    }
    exit_now()
}

impl Op {
    fn carry_out(&self) -> Result<(), i32> {
        // SAFETY: used only for calls that take numbers, and for chdir and openat, whose paths end
        // with a NUL.
        let numbers = |number, arguments| unsafe { raw_syscall(number, arguments) };
        match self {
            Self::PassGate(fd) => {
                let mut byte = 0_u8;
                // SAFETY: the byte outlives the call.
                match unsafe { raw_syscall(libc::SYS_read, [*fd as usize, (&raw mut byte) as usize, 1, 0, 0]) }? {
                    0 => return Err(libc::ECANCELED),
                    _ => 0,
                }
            }
            Self::EnterGroup(fd) => {
                let own = b"0";
                // SAFETY: the text outlives the call, and its length is passed.
                unsafe { raw_syscall(libc::SYS_write, [*fd as usize, own.as_ptr() as usize, own.len(), 0, 0]) }?
            }
            Self::NewCgroupNamespace => numbers(libc::SYS_unshare, [libc::CLONE_NEWCGROUP as usize, 0, 0, 0, 0])?,
            Self::RestrictFiles(fd) => numbers(libc::SYS_landlock_restrict_self, [*fd as usize, 0, 0, 0, 0])?,
            Self::SetAffinity(mask) => {
                let arguments = [0, size_of_val(&mask[..]), mask.as_ptr() as usize, 0, 0];
                // SAFETY: the mask outlives the call, and its size is passed.
                unsafe { raw_syscall(libc::SYS_sched_setaffinity, arguments) }?
            }
            Self::StartSession => numbers(libc::SYS_setsid, [0; 5])?,
            Self::Open { dir, path, to } => {
                let flags = (libc::O_RDWR | libc::O_CLOEXEC) as usize;
                let fd = numbers(libc::SYS_openat, [*dir as usize, path.as_ptr() as usize, flags, 0, 0])?;
                numbers(libc::SYS_dup3, [fd, *to as usize, 0, 0, 0])?
            }
            Self::Place { from, to } => numbers(libc::SYS_dup3, [*from as usize, *to as usize, 0, 0, 0])?,
            Self::TakeTerminal(fd) => numbers(libc::SYS_ioctl, [*fd as usize, libc::TIOCSCTTY as usize, 0, 0, 0])?,
            Self::Close { first, last } => numbers(libc::SYS_close_range, [*first as usize, *last as usize, 0, 0, 0])?,
            Self::ChangeDirectory(path) => numbers(libc::SYS_chdir, [path.as_ptr() as usize, 0, 0, 0, 0])?,
            Self::Limit { resource, soft, hard } => {
                let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
                let arguments = [0, *resource as usize, (&raw const limit) as usize, 0, 0];
                // SAFETY: the struct outlives the call, and the pointer for the old limit is null.
                unsafe { raw_syscall(libc::SYS_prlimit64, arguments) }?
            }
            Self::SetIds { uid, gid } => {
                let (uid, gid) = (*uid as usize, *gid as usize);
                numbers(libc::SYS_setresgid, [gid, gid, gid, 0, 0])?;
                numbers(libc::SYS_setresuid, [uid, uid, uid, 0, 0])?
            }
            Self::DropCapabilities => {
                const VERSION_3: u32 = 0x2008_0522;
                let (header, none) = ([VERSION_3, 0], [0_u32; 6]);
                let arguments = [(&raw const header) as usize, (&raw const none) as usize, 0, 0, 0];
                // SAFETY: version 3 has a header of two words, and two sets of three words. Both
                // outlive the call.
                unsafe { raw_syscall(libc::SYS_capset, arguments) }?
            }
            Self::ClearSignalMask => {
                let none = 0_u64;
                let arguments = [libc::SIG_SETMASK as usize, (&raw const none) as usize, 0, size_of::<u64>(), 0];
                // SAFETY: the kernel's signal set has 64 bits, and the pointer for the old set is
                // null.
                unsafe { raw_syscall(libc::SYS_rt_sigprocmask, arguments) }?
            }
            Self::InstallFilter(program) => return install_filter_here(program),
            Self::Exec { image, args, env } => return Err(execute(image, args, env)),
        };
        Ok(())
    }
}

/// Executes the image, or returns the errno. EACCES for one candidate has precedence over the
/// absence of later ones.
fn execute(image: &Image, args: &Vector, env: &Vector) -> i32 {
    let (args, env) = (args.pointers.as_ptr() as usize, env.pointers.as_ptr() as usize);
    let candidates = match image {
        Image::FirstOf(candidates) => candidates,
        Image::Descriptor(fd) => {
            let arguments = [*fd as usize, c"".as_ptr() as usize, args, env, libc::AT_EMPTY_PATH as usize];
            let errno = execute_with_retry(libc::SYS_execveat, arguments);
            return if errno == libc::ENOENT { libc::ENOEXEC } else { errno };
        }
    };
    let mut result = libc::ENOENT;
    for candidate in candidates {
        match execute_with_retry(libc::SYS_execve, [candidate.as_ptr() as usize, args, env, 0, 0]) {
            libc::EACCES => result = libc::EACCES,
            libc::ENOENT | libc::ENOTDIR => {}
            errno => return errno,
        }
    }
    result
}

/// Executes a file, or returns the errno. Retries for up to a tenth of a second while the file is
/// open for writing: a host that forked while it wrote the file may hold it open for a moment
/// longer.
fn execute_with_retry(number: libc::c_long, arguments: [usize; 5]) -> i32 {
    let mut attempts = 0;
    loop {
        // SAFETY: `execute` passes a path that ends with a NUL or a descriptor, and two vectors of
        // such strings that end with a null pointer.
        let errno = unsafe { raw_syscall(number, arguments) }.err().unwrap_or(0);
        attempts += 1;
        if errno != libc::ETXTBSY || attempts == 100 {
            return errno;
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // An early return only means an earlier retry.
        // SAFETY: the struct outlives the call, and the pointer for the remaining time is null.
        let _interrupted = unsafe { raw_syscall(libc::SYS_nanosleep, [(&raw const pause) as usize, 0, 0, 0, 0]) };
    }
}
