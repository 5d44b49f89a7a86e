//! New processes: the init's first stage, and its pid 1.
//!
//! Invariant: between clone and exec a child makes raw system calls only. It neither allocates, locks nor panics, and
//! never touches errno: it may be running in a threaded host's memory.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::process::Pidfd;
use super::raw_syscall;

/// A process started by [`spawn`].
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
}

/// Starts an executable file as posix_spawn(3) does, without copying this process's page tables, with these as its
/// descriptors 0, 1 and 2, no other, and an empty environment; in a group of cgroup v2, where one is named. The calling
/// thread waits until it has been executed.
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

    // A handler of the host's must not run in the child, on the host's memory.
    let mut inherited = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut inherited))?;
    let cloned = match group {
        // SAFETY: the stack is the child's alone. CLONE_VFORK holds this thread until the child has left this memory, so the
        // stack and the plan outlive its use of them; `spawn_child` keeps this module's invariant.
        Some(group) => unsafe { clone_into(group.as_raw_fd(), spawn_child, &stack, flags, argument, &raw mut pidfd) },
        None => {
            // SAFETY: as above.
            let pid = unsafe { libc::clone(spawn_child, stack.top(), flags | libc::SIGCHLD, argument, &raw mut pidfd) };
            if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
        }
    };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&inherited), None)?;
    let pid = cloned?;
    // SAFETY: clone succeeded with CLONE_PIDFD, so this is a new fd that nobody else owns; it closes on exec.
    let pidfd = Pidfd::new(unsafe { OwnedFd::from_raw_fd(pidfd) });
    // SAFETY: the child wrote through a pointer to this place, and has left this memory.
    match unsafe { ptr::read_volatile(&raw const plan.errno) } {
        0 => Ok(Spawned { pid: pid as u32, pidfd }),
        errno => {
            pidfd.reap()?;
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// A user namespace with these id maps, in the form of `/proc/PID/uid_map`, and without processes.
///
/// It costs a process that shares this one's memory for as long as the maps are being written.
pub(crate) fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let stack = Stack::new()?;
    let (end, keep_open) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let mut end_fd = end.as_raw_fd();
    let mut pidfd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::CLONE_PIDFD | libc::SIGCHLD;

    // A handler of the host's must not run in the child, on the host's memory.
    let mut inherited = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut inherited))?;
    let argument = (&raw mut end_fd).cast::<c_void>();
    // SAFETY: the stack and the number are the child's until it is reaped, which is before this function returns;
    // `idle_child` keeps this module's invariant.
    let pid = unsafe { libc::clone(idle_child, stack.top(), flags, argument, &raw mut pidfd) };
    let error = io::Error::last_os_error();
    let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&inherited), None);
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: clone succeeded with CLONE_PIDFD, so this is a new fd that nobody else owns; it closes on exec.
    let pidfd = Pidfd::new(unsafe { OwnedFd::from_raw_fd(pidfd) });
    let take = || -> io::Result<OwnedFd> {
        std::fs::write(format!("/proc/{pid}/uid_map"), uid_map)?;
        std::fs::write(format!("/proc/{pid}/gid_map"), gid_map)?;
        Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
    };
    let namespace = take();
    // Whatever went wrong, the child must be gone before its stack is. The pipe is for a host that dies before this.
    pidfd.kill().expect("a child can be killed");
    pidfd.reap().expect("a child can be waited for");
    drop(keep_open);
    restored?;
    namespace
}

/// Waits for the end of the pipe that it is given, without any other descriptor: one that it inherited could be what another
/// such child waits for.
extern "C" fn idle_child(end: *mut c_void) -> i32 {
    // SAFETY: `user_namespace` passes a number of its own, and waits for this process's end before it goes on.
    let end = unsafe { *end.cast::<i32>() } as usize;
    // SAFETY: close_range takes numbers, and closes the child's own copies.
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
    // SAFETY: `spawn` passes its own plan, and waits; nobody else looks at it meanwhile.
    let errno = unsafe { place_and_execute(&*plan) };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(&raw mut (*plan).errno, errno) };
    exit_now()
}

/// Returns the errno of what failed.
///
/// # Safety
/// The plan's pointers are those that execve(2) expects.
unsafe fn place_and_execute(plan: &SpawnPlan) -> i32 {
    let place = || {
        let mut fds = plan.fds;
        // Away from the places where they go, whatever numbers they have: a host may have closed its own 0, 1 and 2.
        for fd in &mut fds {
            // SAFETY: fcntl with numbers; the child's table is its own copy.
            let moved = unsafe { raw_syscall(libc::SYS_fcntl, [*fd as usize, libc::F_DUPFD as usize, 10, 0, 0]) }?;
            *fd = moved as i32;
        }
        for (target, fd) in fds.into_iter().enumerate() {
            let flags = if target == IMAGE { libc::O_CLOEXEC } else { 0 };
            // SAFETY: dup3 takes numbers.
            unsafe { raw_syscall(libc::SYS_dup3, [fd as usize, target, flags as usize, 0, 0]) }?;
        }
        // SAFETY: close_range takes numbers, and closes the child's own copies.
        unsafe { raw_syscall(libc::SYS_close_range, [IMAGE + 1, u32::MAX as usize, 0, 0, 0]) }
    };
    const IMAGE: usize = 3;
    if let Err(errno) = place() {
        return errno;
    }
    let arguments =
        [IMAGE, c"".as_ptr() as usize, plan.argv as usize, plan.envp as usize, libc::AT_EMPTY_PATH as usize];
    // SAFETY: the caller's.
    unsafe { raw_syscall(libc::SYS_execveat, arguments) }.err().unwrap_or(0)
}

/// Makes a copy of this process that is a child of its parent: pid 1 of a pid namespace unshared before.
///
/// True in the child. This process must have one thread only.
pub(crate) fn fork_to_parent() -> io::Result<bool> {
    // SAFETY: the child gets a copy of this memory and, with a null stack, goes on at this place on its copy of the
    // stack. There is no other thread whose locks could be held for ever in the copy: unshare(CLONE_NEWUSER), which came
    // before, refuses a process that has any.
    let pid = unsafe { raw_syscall(libc::SYS_clone, [(libc::CLONE_PARENT | libc::SIGCHLD) as usize, 0, 0, 0, 0]) };
    Ok(pid.map_err(io::Error::from_raw_os_error)? == 0)
}

/// As `libc::clone`, into a group of cgroup v2, whose directory this descriptor is open on. SIGCHLD is sent at the child's end.
///
/// # Safety
/// As for `libc::clone`: `child` gets `argument` on this stack, and must not return. What both point to, and `pidfd` where
/// the flags ask for one, live until the child has ended or left this memory.
pub(super) unsafe fn clone_into(
    group: i32,
    child: extern "C" fn(*mut c_void) -> i32,
    stack: &Stack,
    flags: i32,
    argument: *mut c_void,
    pidfd: *mut i32,
) -> io::Result<i32> {
    // SAFETY: all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64 | CLONE_INTO_CGROUP;
    arguments.pidfd = pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    (arguments.stack, arguments.stack_size) = (stack.bottom() as u64, Stack::SIZE as u64);
    arguments.cgroup = group as u64;
    let (place, size) = (&raw const arguments, size_of_val(&arguments));
    let value: isize;
    // SAFETY: the kernel returns twice. The parent goes on after the block. The child has the registers of the parent but for
    // the result and the stack pointer, which is at the top of an empty, aligned stack; it never comes to the block's end.
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
    // SAFETY: as above.
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

/// The flag is the kernel's 33rd bit; the others that this module passes are lower.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Ends the calling process without running anything of the C library's.
pub(super) fn exit_now() -> ! {
    // SAFETY: exit_group takes a number, and returns only where a filter refuses it.
    let _refused = unsafe { raw_syscall(libc::SYS_exit_group, [127, 0, 0, 0, 0]) };
    // Whoever started this process may be suspended until it has ended.
    // SAFETY: an instruction that there is not: the kernel ends the process, whose handlers are not called for a signal that is
    // blocked or has none.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("ud2", options(noreturn));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("udf #0", options(noreturn));
    }
}

/// A stack for a child that shares this process's memory: 64 KiB above a page that must not be touched.
#[derive(Debug)]
pub(super) struct Stack(ptr::NonNull<c_void>);

impl Stack {
    const SIZE: usize = 64 << 10;
    /// The largest page that aarch64 has.
    const GUARD: usize = 64 << 10;

    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), Self::GUARD + Self::SIZE, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(ptr::NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?);
        // SAFETY: the upper part of the mapping just made.
        let usable = unsafe { start.byte_add(Self::GUARD) };
        // SAFETY: as above.
        if unsafe { libc::mprotect(usable, Self::SIZE, libc::PROT_READ | libc::PROT_WRITE) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    fn bottom(&self) -> *mut c_void {
        // SAFETY: within the mapping.
        unsafe { self.0.as_ptr().byte_add(Self::GUARD) }
    }

    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.0.as_ptr().byte_add(Self::GUARD + Self::SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which is this value's alone. Whoever lent it to a child has outwaited the child.
        unsafe { libc::munmap(self.0.as_ptr(), Self::GUARD + Self::SIZE) };
    }
}
