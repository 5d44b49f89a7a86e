//! Injects a fault at one system call: the call fails, or its caller is killed or stopped.
//!
//! The host and all its processes run under a seccomp filter that notifies a supervisor of the
//! calls in [`CALLS`]. The supervisor counts the calls of one side, strikes at one of them, and
//! lets the others continue.
//!
//! Invariant: [`run`] returns only when every thread and process under its filter is gone. So a
//! leaked process fails the test, whatever its name and parent are.
#![allow(unsafe_code, reason = "the kernel's interface for this takes pointers, and no crate here wraps it")]

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use libc::c_long;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A fault: what happens, and at which call.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub side: Side,
    pub act: Act,
    /// The number of calls of that side that succeed first, counted from [`begin`].
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
    /// Kills the caller.
    Kill,
    /// Stops the caller.
    Stop,
    /// Never returns from the call.
    Silence,
    /// Fails the call with this errno. Only calls that can fail so are counted.
    Fail(i32),
    /// Fails the call and every later one.
    KeepFailing(i32),
    /// Kills the host.
    KillHost,
}

/// Where the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// In the thread of [`run`].
    Thread,
    /// In a process that this thread starts.
    Process,
}

/// A system call: its number, its name, and how it may fail when a resource runs out.
type Call = (c_long, &'static str, &'static [i32]);

const FD: &[i32] = &[libc::EMFILE, libc::ENOMEM];
const FILE: &[i32] = &[libc::EMFILE, libc::ENOMEM, libc::ENOSPC];
const NAME: &[i32] = &[libc::ENOMEM, libc::ENOSPC];
const MEMORY: &[i32] = &[libc::ENOMEM];
const NOTHING: &[i32] = &[];

/// The calls that the supervisor sees: the ones that make something, and those on the socket.
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

/// A call that neither host nor init makes otherwise; see [`begin`].
const BEGIN: c_long = libc::SYS_getpgid;

/// Starts the count of calls.
pub fn begin() {
    nix::unistd::getpgid(None).unwrap();
}

/// The outcome of a host under the filter.
#[derive(Debug)]
pub struct Outcome<T> {
    pub result: T,
    /// The call at which the fault struck, if any.
    pub struck: Option<&'static str>,
    /// The file that the call names, if it is an `openat`.
    pub file: Option<String>,
    /// The number of calls that the fault counts.
    pub calls: usize,
    /// The time from the death of the host until all its processes were gone.
    pub lingered: Option<Duration>,
}

/// Runs a host with a fault, under the filter and in a new thread.
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
            file: None,
            struck_at: None,
        };
        supervisor.supervise(&listener, &finished);
        let Supervisor { struck, file, count, struck_at, .. } = supervisor;
        Outcome { result: host.join().unwrap(), struck, file, calls: count, lingered: struck_at.map(|at| at.elapsed()) }
    })
}

/// Keeps the host on one processor. Waking the supervisor on another one costs more than the rest
/// of the test.
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
    /// The pid of the host, if it is a separate process.
    host: Option<u32>,
    has_begun: bool,
    count: usize,
    struck: Option<&'static str>,
    file: Option<String>,
    struck_at: Option<Instant>,
}

/// A thread or process under the filter.
#[derive(Clone, Copy, Debug)]
struct Caller {
    process: u32,
    /// 0 for this process, 1 for its children.
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
            // A leaked process may never make a call.
            let is_late = finished_at.is_some_and(|at: Instant| at.elapsed() > Duration::from_secs(10));
            assert!(!is_late, "after {:?} at {:?} a process is still there", self.fault, self.struck);
            if finished_at.is_some() && self.host.is_some() {
                // This process is the new parent of the host's children. Some kernels keep the
                // filter until they are reaped.
                while waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL))
                    .is_ok_and(|status| status != WaitStatus::StillAlive)
                {}
            }
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, 50_u8).unwrap();
            let events = ready[0].revents().unwrap();
            if events.contains(PollFlags::POLLIN) {
                // The caller may have died meanwhile.
                if let Some(notice) = receive(listener) {
                    let verdict = self.judge(&notice);
                    answer(listener, notice.id, verdict);
                }
            } else if events.contains(PollFlags::POLLHUP) {
                // Processes drop the filter just before they become reapable.
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
        if let Act::Fail(errno) | Act::KeepFailing(errno) = self.fault.act {
            if !errnos.contains(&errno) {
                return Verdict::GoOn;
            }
        }
        self.count += 1;
        let is_over = self.struck.is_some() && !matches!(self.fault.act, Act::KeepFailing(_));
        if is_over || self.count <= self.fault.after {
            return Verdict::GoOn;
        }
        if self.struck.is_none() {
            self.struck = Some(name);
            self.file = (number == libc::SYS_openat).then(|| text_at(notice.pid, notice.data.args[1]));
        }
        match self.fault.act {
            Act::Fail(errno) | Act::KeepFailing(errno) => return Verdict::Fail(errno),
            Act::Silence => return Verdict::Nothing,
            Act::Kill => strike(caller.process, Signal::SIGKILL),
            Act::Stop => strike(caller.process, Signal::SIGSTOP),
            Act::KillHost => {
                self.struck_at = Some(Instant::now());
                strike(self.host.unwrap(), Signal::SIGKILL);
                return Verdict::GoOn;
            }
        }
        // The call is never made.
        Verdict::Nothing
    }

    fn counts(&self, caller: Caller) -> bool {
        let is_host = caller.depth == self.host_depth;
        let is_init = caller.depth == self.host_depth + 1;
        // Between clone and exec the child runs code of the init.
        let is_program = caller.depth == self.host_depth + 2 && !caller.has_executed;
        let fits = match self.fault.side {
            Side::Host => is_host,
            Side::Init if matches!(self.fault.act, Act::Fail(_) | Act::KeepFailing(_)) => is_init || is_program,
            // Before its exec the starting thread waits for it, as in posix_spawn(3).
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
        // A fork of pid 1 copies a process that has executed the init.
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

/// The text in the memory of a caller, which waits for its verdict.
fn text_at(caller: u32, address: u64) -> String {
    let mut text = [0; 200];
    let memory = fs::File::open(format!("/proc/{caller}/mem")).unwrap();
    let size = memory.read_at(&mut text, address).unwrap_or(0);
    String::from_utf8_lossy(text[..size].split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// Installs the filter for this thread and its descendants. Returns the descriptor of the
/// notifications.
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
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// `_IOWR('!', number, size)`.
const fn request(number: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | 0x21 << 8 | number
}

fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    let number = request(0, size_of::<libc::seccomp_notif>());
    // SAFETY: all zeroes is a valid value, and the kernel requires it.
    let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the struct has the kernel's layout and outlives the call.
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
    // SAFETY: the struct has the kernel's layout and outlives the call.
    let sent = unsafe { libc::ioctl(listener.as_raw_fd(), number as _, &raw const response) };
    // A killed caller no longer waits for the answer.
    assert!(sent == 0 || nix::errno::Errno::last() == nix::errno::Errno::ENOENT);
}
