//! New processes: the init's first stage and its pid 1.
//!
//! Invariant: between clone and exec a child makes raw system calls only. It does not allocate,
//! lock, panic or touch errno, because it may run in the memory of a host with threads.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::process::Pidfd;
use super::syscall::{raw_syscall, syscall};

/// A process started by [`spawn`].
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
}

/// Starts an executable file as posix_spawn(3) does, without copying this process's page tables.
/// The new process has `stdio` as its descriptors 0, 1 and 2, no other descriptor, and an empty
/// environment. It starts in `group`, a group of cgroup v2, if there is one. The calling thread
/// waits until the file is executed.
pub(crate) fn spawn(
    image: BorrowedFd<'_>,
    arguments: &[&CStr],
    stdio: [BorrowedFd<'_>; 3],
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Spawned> {
    let argv: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).chain([ptr::null()]).collect();
    let mut plan = SpawnPlan {
        fds: [stdio[0], stdio[1], stdio[2], image].map(|fd| fd.as_raw_fd()),
        argv: argv.as_ptr(),
        envp: &raw const *argv.last().expect("ends with a null"),
        errno: 0,
    };
    let stack = Stack::new()?;
    let mut pidfd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let argument = (&raw mut plan).cast::<c_void>();

    // No signal handler of the host may run in the child, in the host's memory.
    let mut inherited = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut inherited))?;
    let cloned = match group {
        // SAFETY: only the child uses the stack. CLONE_VFORK suspends this thread until the child
        // has left this memory, so the stack and the plan outlive their use. `spawn_child` keeps
        // this module's invariant.
        Some(group) => unsafe { clone_into(group.as_raw_fd(), spawn_child, &stack, flags, argument, &raw mut pidfd) },
        None => {
            // SAFETY: as for the other branch.
            let pid = unsafe { libc::clone(spawn_child, stack.top(), flags | libc::SIGCHLD, argument, &raw mut pidfd) };
            if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
        }
    };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&inherited), None)?;
    let pid = cloned?;
    // SAFETY: the clone succeeded with CLONE_PIDFD, so this is a new descriptor without another
    // owner. It closes on exec.
    let pidfd = Pidfd::new(unsafe { OwnedFd::from_raw_fd(pidfd) });
    // SAFETY: the child has left this memory, so it no longer writes here.
    match unsafe { ptr::read_volatile(&raw const plan.errno) } {
        0 => Ok(Spawned { pid: pid as u32, pidfd }),
        errno => {
            pidfd.reap()?;
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// A user namespace without processes, with these id maps in the format of `/proc/PID/uid_map`.
///
/// It takes a child that shares this process's memory while the maps are written.
pub(crate) fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let stack = Stack::new()?;
    let (end, keep_open) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mut end_fd = end.as_raw_fd();
    let mut pidfd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::CLONE_PIDFD | libc::SIGCHLD;

    // No signal handler of the host may run in the child, in the host's memory.
    let mut inherited = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut inherited))?;
    let argument = (&raw mut end_fd).cast::<c_void>();
    // SAFETY: the stack and the number outlive the child, which is reaped before this function
    // returns. `idle_child` keeps this module's invariant.
    let pid = unsafe { libc::clone(idle_child, stack.top(), flags, argument, &raw mut pidfd) };
    let error = io::Error::last_os_error();
    let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&inherited), None);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the clone succeeded with CLONE_PIDFD, so this is a new descriptor without another
    // owner. It closes on exec.
    let pidfd = Pidfd::new(unsafe { OwnedFd::from_raw_fd(pidfd) });
    let take = || -> io::Result<OwnedFd> {
        std::fs::write(format!("/proc/{pid}/uid_map"), uid_map)?;
        std::fs::write(format!("/proc/{pid}/gid_map"), gid_map)?;
        Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
    };
    let namespace = take();
    // The child must be gone before its stack is, also after a failure. The pipe ends the child if
    // the host dies before this.
    pidfd.kill().expect("a child can be killed");
    pidfd.reap().expect("a child can be waited for");
    drop(keep_open);
    restored?;
    namespace
}

/// Waits for the end of file of a pipe. Closes all other descriptors first: one of them may be the
/// write end of a pipe that another such child waits for.
extern "C" fn idle_child(end: *mut c_void) -> i32 {
    // SAFETY: `user_namespace` passes a pointer to a local number, and does not return before this
    // process has ended.
    let end = unsafe { *end.cast::<i32>() } as usize;
    // SAFETY: close_range takes numbers, and the child has its own descriptor table.
    let close = |first, last| unsafe { raw_syscall(libc::SYS_close_range, [first, last, 0, 0, 0]) };
    let wait = || {
        if end > 0 {
            close(0, end - 1)?;
        }
        close(end + 1, u32::MAX as usize)?;
        let mut byte = 0_u8;
        // SAFETY: the byte outlives the call.
        unsafe { raw_syscall(libc::SYS_read, [end, (&raw mut byte) as usize, 1, 0, 0]) }
    };
    match wait() {
        Ok(_) | Err(_) => exit_now(),
    }
}

struct SpawnPlan {
    /// Standard input, output and error, and the executable.
    fds: [i32; 4],
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    errno: i32,
}

extern "C" fn spawn_child(plan: *mut c_void) -> i32 {
    let plan = plan.cast::<SpawnPlan>();
    // SAFETY: `spawn` passes a pointer to its plan, and waits. No other code uses the plan
    // meanwhile.
    let errno = unsafe { place_and_execute(&*plan) };
    // SAFETY: as for the call above.
    unsafe { ptr::write_volatile(&raw mut (*plan).errno, errno) };
    exit_now()
}

/// Returns the errno of the step that failed.
///
/// # Safety
/// The plan's pointers are valid arguments of execve(2).
unsafe fn place_and_execute(plan: &SpawnPlan) -> i32 {
    let place = || {
        let mut fds = plan.fds;
        // First to numbers from 10 on, away from the targets: a host may have closed its own 0, 1
        // and 2, and have one of these descriptors there.
        for fd in &mut fds {
            // SAFETY: this fcntl takes numbers, and the child has its own descriptor table.
            let moved = unsafe { raw_syscall(libc::SYS_fcntl, [*fd as usize, libc::F_DUPFD as usize, 10, 0, 0]) }?;
            *fd = moved as i32;
        }
        for (target, fd) in fds.into_iter().enumerate() {
            let flags = if target == IMAGE { libc::O_CLOEXEC } else { 0 };
            // SAFETY: dup3 takes numbers.
            unsafe { raw_syscall(libc::SYS_dup3, [fd as usize, target, flags as usize, 0, 0]) }?;
        }
        // SAFETY: close_range takes numbers, and the child has its own descriptor table.
        unsafe { raw_syscall(libc::SYS_close_range, [IMAGE + 1, u32::MAX as usize, 0, 0, 0]) }
    };
    const IMAGE: usize = 3;
    if let Err(errno) = place() {
        return errno;
    }
    let arguments =
        [IMAGE, c"".as_ptr() as usize, plan.argv as usize, plan.envp as usize, libc::AT_EMPTY_PATH as usize];
    // SAFETY: guaranteed by the caller.
    unsafe { raw_syscall(libc::SYS_execveat, arguments) }.err().unwrap_or(0)
}

/// Forks a child of this process's parent: pid 1 of a pid namespace that was unshared before.
/// Returns true in the child.
///
/// This process must have a single thread.
pub(crate) fn fork_to_parent() -> io::Result<bool> {
    // SAFETY: the child gets a copy of this memory and, with a null stack pointer, continues here
    // on its copy of the stack. No other thread can hold a lock in the copy:
    // unshare(CLONE_NEWUSER), which came before, fails in a process with several threads.
    let pid = unsafe { syscall(libc::SYS_clone, [(libc::CLONE_PARENT | libc::SIGCHLD) as usize, 0, 0, 0, 0]) }?;
    Ok(pid == 0)
}

/// `libc::clone` into a group of cgroup v2, given by a descriptor of its directory. The parent gets
/// SIGCHLD at the child's end.
///
/// # Safety
/// As for `libc::clone`. `child` is called with `argument` on this stack, and must not return. The
/// stack, the argument, and `pidfd` if the flags ask for a pidfd, stay valid until the child has
/// ended or left this memory.
pub(super) unsafe fn clone_into(
    group: i32,
    child: extern "C" fn(*mut c_void) -> i32,
    stack: &Stack,
    flags: i32,
    argument: *mut c_void,
    pidfd: *mut i32,
) -> io::Result<i32> {
    // SAFETY: all zeros is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64 | CLONE_INTO_CGROUP;
    arguments.pidfd = pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    (arguments.stack, arguments.stack_size) = (stack.bottom() as u64, Stack::SIZE as u64);
    arguments.cgroup = group as u64;
    let (place, size) = (&raw const arguments, size_of_val(&arguments));
    let value: isize;
    // SAFETY: the kernel returns twice. The parent continues after the block. The child has the
    // parent's registers except for the result and the stack pointer, which is at the top of an
    // empty, aligned stack. The child never reaches the end of the block, because `child` does not
    // return.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => value,
            in("rdi") place,
            in("rsi") size,
            in("r12") argument,
            in("r13") child,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as for x86_64.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") place as isize => value,
            in("x1") size,
            in("x20") argument,
            in("x21") child,
        );
    }
    if value < 0 { Err(io::Error::from_raw_os_error(-value as i32)) } else { Ok(value as i32) }
}

/// The kernel's 33rd bit, which does not fit into `libc::clone`'s flags.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Ends the calling process without running any code of the C library.
pub(super) fn exit_now() -> ! {
    // SAFETY: exit_group takes a number. It returns only if a filter refuses it.
    let _refused = unsafe { raw_syscall(libc::SYS_exit_group, [127, 0, 0, 0, 0]) };
    // The parent may be suspended until this process has ended, so end it in another way.
    // SAFETY: the instruction is invalid, so the kernel ends the process with SIGILL. No handler
    // runs: the signal is blocked or has none.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("ud2", options(noreturn));
    }
    // SAFETY: as for x86_64.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("udf #0", options(noreturn));
    }
}

/// A stack for a child that shares this process's memory: 64 KiB above a guard page.
#[derive(Debug)]
pub(super) struct Stack(ptr::NonNull<c_void>);

impl Stack {
    const SIZE: usize = 64 << 10;
    /// The size of the largest page on aarch64.
    const GUARD: usize = 64 << 10;

    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: this makes a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), Self::GUARD + Self::SIZE, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(ptr::NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?);
        // SAFETY: the address is inside the new mapping.
        let usable = unsafe { start.byte_add(Self::GUARD) };
        // SAFETY: the range is the upper part of the new mapping, which nothing uses yet.
        if unsafe { libc::mprotect(usable, Self::SIZE, libc::PROT_READ | libc::PROT_WRITE) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    fn bottom(&self) -> *mut c_void {
        // SAFETY: the address is inside the mapping.
        unsafe { self.0.as_ptr().byte_add(Self::GUARD) }
    }

    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: the address is one past the end of the mapping.
        unsafe { self.0.as_ptr().byte_add(Self::GUARD + Self::SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping. The owner drops it only after the child on it has
        // ended.
        unsafe { libc::munmap(self.0.as_ptr(), Self::GUARD + Self::SIZE) };
    }
}
