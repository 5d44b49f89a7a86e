//! The reaper: pid 1 of a pid namespace for one run beside another one.
//!
//! The init unshares a pid namespace for its children, starts the reaper in it, and then the
//! program, which stays a child of the init. The reaper adopts the processes that the program
//! leaves. The kernel kills every process of the namespace when the reaper ends, and lets the init
//! reap the reaper only when none is left.
//!
//! Invariant: the reaper makes raw system calls only, in a copy of the init's memory. It does not
//! allocate, lock, panic or touch errno. It has no descriptor.

use std::ffi::c_void;
use std::io;
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::Pid;

use super::clone::{Stack, exit_now};
use super::process::Pidfd;
use super::syscall::raw_syscall;

/// Gives the later children of this process a pid namespace of their own. The first of them is its
/// pid 1.
pub(crate) fn unshare_pid_namespace() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)?)
}

/// Puts the later children of this process into its own pid namespace again.
pub(crate) fn return_to_own_pid_namespace() -> io::Result<()> {
    let own = Pidfd::of_self()?;
    Ok(nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWPID)?)
}

/// Starts a reaper, as the first child of a new pid namespace. Returns its pid.
pub(super) fn start(stack: &Stack) -> io::Result<i32> {
    // The kernel drops a signal for the pid 1 of a pid namespace unless the signal is blocked.
    let mut own = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut own))?;
    // SAFETY: the child gets a copy of this memory, so it shares the stack with no other process.
    // `reap_until_told` takes no argument, and keeps this module's invariant.
    let pid = unsafe { libc::clone(reap_until_told, stack.top(), libc::SIGCHLD, ptr::null_mut()) };
    let error = io::Error::last_os_error();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&own), None)?;
    if pid < 0 { Err(error) } else { Ok(pid) }
}

/// Tells a reaper to kill every process of its namespace, to reap its children, and to end. Also
/// continues a reaper that a program has stopped.
///
/// The pid is that of a reaper that this process has not reaped.
pub(crate) fn tell(reaper: i32) -> io::Result<()> {
    kill(Pid::from_raw(reaper), Signal::SIGTERM)?;
    Ok(kill(Pid::from_raw(reaper), Signal::SIGCONT)?)
}

/// Kills a reaper. The kernel then kills every process of its namespace, and counts the CPU time of
/// those that the reaper has adopted for no process.
///
/// The pid is that of a reaper that this process has not reaped.
pub(crate) fn kill_reaper(reaper: i32) -> io::Result<()> {
    Ok(kill(Pid::from_raw(reaper), Signal::SIGKILL)?)
}

extern "C" fn reap_until_told(_: *mut c_void) -> i32 {
    // SAFETY: used only for calls that take numbers.
    let call = |number, arguments| unsafe { raw_syscall(number, arguments) };
    // The init's socket, and the streams of other programs.
    if call(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0]).is_err() {
        exit_now();
    }
    let mut is_told = false;
    loop {
        let reaped = call(libc::SYS_wait4, [usize::MAX, 0, (libc::WNOHANG | libc::__WALL) as usize, 0, 0]);
        let signal = match reaped {
            Err(libc::ECHILD) if is_told => exit_now(),
            // Programs can make orphans as fast as they are reaped.
            Ok(1..) => take_signal(TERM, true),
            _ => take_signal(TERM | CHLD, false),
        };
        if signal == libc::SIGTERM {
            is_told = true;
            // This process is pid 1 of its namespace, so the call spares it alone. ESRCH: there is
            // no other process.
            call(libc::SYS_kill, [usize::MAX, libc::SIGKILL as usize, 0, 0, 0]).ok();
        }
    }
}

const TERM: u64 = 1 << (libc::SIGTERM - 1);
const CHLD: u64 = 1 << (libc::SIGCHLD - 1);

/// Takes one of these signals, which are blocked, and waits for one unless `only_now`. Returns 0 if
/// there is none.
fn take_signal(among: u64, only_now: bool) -> i32 {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let timeout = if only_now { &raw const now } else { ptr::null() };
    let arguments = [(&raw const among) as usize, 0, timeout as usize, size_of::<u64>(), 0];
    // SAFETY: the set and the time outlive the call, and the pointer for the siginfo is null.
    unsafe { raw_syscall(libc::SYS_rt_sigtimedwait, arguments) }.map_or(0, |signal| signal as i32)
}
