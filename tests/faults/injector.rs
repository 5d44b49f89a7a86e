//! System calls that fail, or whose callers die, at a place of the test's choice.
//!
//! A host and all that it starts run under a seccomp filter which hands the calls of [`CALLS`] to a supervisor. That
//! counts those of one side, strikes at one of them, and lets the others go on.
//!
//! Invariant: [`run`] returns only when every thread and process under its filter is gone. So a process that is left
//! over fails the test, whatever its name and parent are.
#![allow(unsafe_code, reason = "the kernel's interface for this takes pointers, and no crate here wraps it")]

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use libc::c_long;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// One fault: what happens at which call.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub side: Side,
    pub act: Act,
    /// How many calls of that side, after [`begin`], go well before.
    pub after: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Host,
    Init,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The caller is killed.
    Kill,
    /// The caller is stopped.
    Stop,
    /// The call never returns.
    Silence,
    /// The call fails so; only those count that can.
    Fail(i32),
    /// The host is killed.
    KillHost,
}

/// Where the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The thread that [`run`] makes.
    Thread,
    /// A process that this thread starts.
    Process,
}

/// What a call is, and how it may fail for want of something.
type Call = (c_long, &'static str, &'static [i32]);

const FD: &[i32] = &[libc::EMFILE, libc::ENOMEM];
const FILE: &[i32] = &[libc::EMFILE, libc::ENOMEM, libc::ENOSPC];
const NAME: &[i32] = &[libc::ENOMEM, libc::ENOSPC];
const MEMORY: &[i32] = &[libc::ENOMEM];
const NOTHING: &[i32] = &[];

/// The calls that the supervisor sees: those that make something, and the conversation.
const CALLS: &[Call] = &[
    (BEGIN, "getpgid", NOTHING),
    (libc::SYS_socket, "socket", FD),
    (libc::SYS_socketpair, "socketpair", FD),
    (libc::SYS_bind, "bind", MEMORY),
    (libc::SYS_pipe2, "pipe2", FD),
    (libc::SYS_memfd_create, "memfd_create", FD),
    (libc::SYS_openat, "openat", FD),
    (libc::SYS_openat2, "openat2", FILE),
    (libc::SYS_open_tree, "open_tree", FD),
    (libc::SYS_fsopen, "fsopen", FD),
    (libc::SYS_fsconfig, "fsconfig", MEMORY),
    (libc::SYS_fsmount, "fsmount", FD),
    (libc::SYS_move_mount, "move_mount", MEMORY),
    (libc::SYS_mount_setattr, "mount_setattr", MEMORY),
    (libc::SYS_mount, "mount", MEMORY),
    (libc::SYS_umount2, "umount2", MEMORY),
    (libc::SYS_pivot_root, "pivot_root", MEMORY),
    (libc::SYS_mkdirat, "mkdirat", NAME),
    (libc::SYS_symlinkat, "symlinkat", NAME),
    (libc::SYS_unlinkat, "unlinkat", MEMORY),
    (libc::SYS_pidfd_open, "pidfd_open", FD),
    (libc::SYS_signalfd4, "signalfd4", FD),
    (libc::SYS_epoll_ctl, "epoll_ctl", NAME),
    (libc::SYS_fcntl, "fcntl", FD),
    (libc::SYS_dup3, "dup3", FD),
    (libc::SYS_clone, "clone", MEMORY),
    (libc::SYS_execve, "execve", MEMORY),
    (libc::SYS_execveat, "execveat", MEMORY),
    (libc::SYS_unshare, "unshare", NAME),
    (libc::SYS_setresuid, "setresuid", NOTHING),
    (libc::SYS_setsid, "setsid", NOTHING),
    (libc::SYS_keyctl, "keyctl", NOTHING),
    (libc::SYS_sethostname, "sethostname", NOTHING),
    (libc::SYS_chdir, "chdir", NOTHING),
    (libc::SYS_sendto, "sendto", MEMORY),
    (libc::SYS_sendmsg, "sendmsg", MEMORY),
    (libc::SYS_recvmsg, "recvmsg", NOTHING),
    (libc::SYS_wait4, "wait4", NOTHING),
    (libc::SYS_exit_group, "exit_group", NOTHING),
];

/// What nobody else calls; see [`begin`].
const BEGIN: c_long = libc::SYS_getpgid;

/// From here on the host's and the init's calls count.
pub fn begin() {
    nix::unistd::getpgid(None).unwrap();
}

/// What became of a host under the filter.
#[derive(Debug)]
pub struct Outcome<T> {
    pub result: T,
    /// The call at which the fault struck, if it did.
    pub struck: Option<&'static str>,
    /// How many calls there were of those that the fault counts.
    pub calls: usize,
    /// From the host's death until everything that it had started was gone.
    pub lingered: Option<Duration>,
}

/// Runs a host under the filter, in a thread of its own, with this fault.
pub fn run<T: Send>(fault: Fault, place: Host, host: impl FnOnce() -> T + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let (sender, listeners) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let host = scope.spawn(move || {
            on_one_processor();
            sender.send(install_filter()).unwrap();
            let result = host();
            done.send(()).unwrap();
            result
        });
        let listener = listeners.recv().unwrap();
        let mut supervisor = Supervisor {
            fault,
            host_depth: if place == Host::Process { 1 } else { 0 },
            seen: HashMap::new(),
            host: None,
            has_begun: false,
            count: 0,
            struck: None,
            struck_at: None,
        };
        supervisor.supervise(&listener, &finished);
        let Supervisor { struck, count, struck_at, .. } = supervisor;
        Outcome { result: host.join().unwrap(), struck, calls: count, lingered: struck_at.map(|at| at.elapsed()) }
    })
}

/// A supervisor that has to be woken on another processor costs more than the rest of the test.
fn on_one_processor() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let all: Vec<_> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap()).collect();
    let mut own = CpuSet::new();
    own.set(all[nix::unistd::gettid().as_raw() as usize % all.len()]).unwrap();
    sched_setaffinity(Pid::from_raw(0), &own).unwrap();
}

struct Supervisor {
    fault: Fault,
    host_depth: usize,
    seen: HashMap<u32, Caller>,
    /// The host's pid, where it is a process of its own.
    host: Option<u32>,
    has_begun: bool,
    count: usize,
    struck: Option<&'static str>,
    struck_at: Option<Instant>,
}

/// A thread or process under the filter.
#[derive(Clone, Copy, Debug)]
struct Caller {
    process: u32,
    /// 0 is this process, 1 its children.
    depth: usize,
    has_executed: bool,
}

enum Verdict {
    GoOn,
    Fail(i32),
    Nothing,
}

impl Supervisor {
    fn supervise(&mut self, listener: &OwnedFd, finished: &mpsc::Receiver<()>) {
        let mut finished_at = None;
        loop {
            if finished_at.is_none() && finished.try_recv() != Err(mpsc::TryRecvError::Empty) {
                finished_at = Some(Instant::now());
            }
            // Whoever is left over makes no call, perhaps for ever.
            let is_late = finished_at.is_some_and(|at: Instant| at.elapsed() > Duration::from_secs(10));
            assert!(!is_late, "after {:?} at {:?} somebody is still there", self.fault, self.struck);
            if finished_at.is_some() && self.host.is_some() {
                // The host's children are this process's now, and some kernels keep the filter until they are reaped.
                while waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL))
                    .is_ok_and(|status| status != WaitStatus::StillAlive)
                {}
            }
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, 50_u8).unwrap();
            let events = ready[0].revents().unwrap();
            if events.contains(PollFlags::POLLIN) {
                // The caller may have died since.
                if let Some(notice) = receive(listener) {
                    let verdict = self.judge(&notice);
                    answer(listener, notice.id, verdict);
                }
            } else if events.contains(PollFlags::POLLHUP) {
                // The others let go of it just before they can be reaped.
                while self.host.is_some() && waitpid(None, Some(WaitPidFlag::__WALL)).is_ok() {}
                return;
            }
        }
    }

    fn judge(&mut self, notice: &libc::seccomp_notif) -> Verdict {
        let number = c_long::from(notice.data.nr);
        let Some(caller) = self.caller(notice.pid) else { return Verdict::GoOn };
        if number == BEGIN {
            self.has_begun = true;
            return Verdict::GoOn;
        }
        let is_exec = [libc::SYS_execve, libc::SYS_execveat].contains(&number);
        if caller.depth > self.host_depth && is_exec {
            self.seen.entry(notice.pid).and_modify(|it| it.has_executed = true);
        }
        let Some((_, name, errnos)) = CALLS.iter().find(|call| call.0 == number) else { return Verdict::GoOn };
        let is_dup = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&(notice.data.args[1] as i32));
        if !self.counts(caller) || (number == libc::SYS_fcntl && !is_dup) {
            return Verdict::GoOn;
        }
        if let Act::Fail(errno) = self.fault.act {
            if !errnos.contains(&errno) {
                return Verdict::GoOn;
            }
        }
        self.count += 1;
        if self.struck.is_some() || self.count <= self.fault.after {
            return Verdict::GoOn;
        }
        self.struck = Some(name);
        match self.fault.act {
            Act::Fail(errno) => return Verdict::Fail(errno),
            Act::Silence => return Verdict::Nothing,
            Act::Kill => strike(caller.process, Signal::SIGKILL),
            Act::Stop => strike(caller.process, Signal::SIGSTOP),
            Act::KillHost => {
                self.struck_at = Some(Instant::now());
                strike(self.host.unwrap(), Signal::SIGKILL);
                return Verdict::GoOn;
            }
        }
        // It never makes the call.
        Verdict::Nothing
    }

    fn counts(&self, caller: Caller) -> bool {
        let is_host = caller.depth == self.host_depth;
        let is_init = caller.depth == self.host_depth + 1;
        // Between its clone and its exec a program is the init's.
        let is_program = caller.depth == self.host_depth + 2 && !caller.has_executed;
        let fits = match self.fault.side {
            Side::Host => is_host,
            Side::Init if matches!(self.fault.act, Act::Fail(_)) => is_init || is_program,
            // Before its exec it has the thread that started it wait, as posix_spawn(3) does.
            Side::Init if matches!(self.fault.act, Act::Stop | Act::Silence) => is_init && caller.has_executed,
            Side::Init => is_init,
            Side::Both => is_host || is_init,
        };
        self.has_begun && fits
    }

    fn caller(&mut self, id: u32) -> Option<Caller> {
        if let Some(known) = self.seen.get(&id) {
            return Some(*known);
        }
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let field = |name: &str| -> Option<u32> {
            status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
        };
        let (process, parent) = (field("Tgid:")?, field("PPid:")?);
        let depth = if process == std::process::id() { 0 } else { self.caller(parent).map_or(9, |it| it.depth) + 1 };
        // A copy of pid 1's is of one that has executed.
        let has_executed = depth == self.host_depth + 1 && status.contains("cellblock-init");
        let caller = Caller { process, depth, has_executed };
        if depth == 1 && self.host_depth == 1 {
            self.host = Some(process);
        }
        self.seen.insert(id, caller);
        Some(caller)
    }
}

fn strike(process: u32, signal: Signal) {
    kill(Pid::from_raw(process as i32), signal).unwrap();
}

/// Installs the filter for this thread and all that it starts, and gives the fd on which its calls are heard.
fn install_filter() -> OwnedFd {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (left, (number, ..)) in CALLS.iter().enumerate().map(|(place, call)| (CALLS.len() - place, call)) {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        program.push(libc::sock_filter { code, jt: left as u8, jf: 0, k: *number as u32 });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs().unwrap();
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the kernel copies the program, which outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    assert!(fd >= 0, "no seccomp listener: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// `_IOWR('!', number, a struct of this size)`.
const fn request(number: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | 0x21 << 8 | number
}

fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    let number = request(0, size_of::<libc::seccomp_notif>());
    // SAFETY: all zeroes is a valid value, and what the kernel asks for.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is the kernel's, and outlives the call.
    let received = unsafe { libc::ioctl(listener.as_raw_fd(), number as _, &raw mut notice) };
    (received == 0).then_some(notice)
}

fn answer(listener: &OwnedFd, id: u64, verdict: Verdict) {
    let (error, flags) = match verdict {
        Verdict::GoOn => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Verdict::Fail(errno) => (-errno, 0),
        Verdict::Nothing => return,
    };
    let response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    let number = request(1, size_of::<libc::seccomp_notif_resp>());
    // SAFETY: the struct is the kernel's, and outlives the call.
    let sent = unsafe { libc::ioctl(listener.as_raw_fd(), number as _, &raw const response) };
    // A caller that was struck is not there to be answered.
    assert!(sent == 0 || nix::errno::Errno::last() == nix::errno::Errno::ENOENT);
}
