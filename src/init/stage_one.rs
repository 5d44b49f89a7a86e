//! Stage one: from a process that the host has started to pid 1 of new namespaces.
//!
//! Invariant: a step that fails is reported to the host and ends the process. Everything that is
//! set here holds for every process that pid 1 starts.

use std::io;

use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, setgroups, setpgid, setresgid, setresuid};

use crate::error::{Failure, ResultExt, Step};
use crate::sys::{clone, process};
use crate::wire::{self, Reply, Request, State};

use super::host::{End, Host};

/// Unshares the namespaces, waits for the id maps, and makes pid 1. Returns `None` in stage one
/// itself.
pub(super) fn become_pid_1() -> Result<Option<Host>, End> {
    let mut host = Host::from_stdin()?;
    host.require(prepare())?;
    // The user namespace comes first: the host writes its maps while the other namespaces are made.
    // The network namespace takes longest.
    host.require(unshare(CloneFlags::CLONE_NEWUSER))?;
    host.send(0, &Reply::Hello(wire::VERSION), Vec::new())?;
    host.require(unshare(OTHER_NAMESPACES))?;

    let started = host.receive(State::Unshared)?;
    if let Request::Start { cgroup_namespace: true } = started.body {
        host.require(unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    host.require(take_ids())?;
    host.require(forbid_nested_namespaces())?;
    host.require(forbid_watches())?;
    let is_pid_1 = host.require(clone::fork_to_parent().step(Step::ForkPid1))?;
    if !is_pid_1 {
        return Ok(None);
    }
    let pidfd = host.require(process::Pidfd::of_self().step(Step::ResetInherited))?;
    host.send(0, &Reply::Started, vec![pidfd.into()])?;
    host.require(reset_inherited().step(Step::ResetInherited))?;
    Ok(Some(host))
}

const OTHER_NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);

/// What the process can do only with the ids that it was started with.
fn prepare() -> Result<(), Failure> {
    // Pid 1 stays in this process group until the host has its pidfd. So the host can find and reap
    // it whenever it dies.
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).step(Step::ResetInherited)?;
    process::set_name(c"cellblock-init").step(Step::ResetInherited)?;
    dump_no_memory()
}

fn unshare(namespaces: CloneFlags) -> Result<(), Failure> {
    nix::sched::unshare(namespaces).step(Step::Unshare)
}

fn take_ids() -> Result<(), Failure> {
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).step(Step::TakeIds)?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).step(Step::TakeIds)?;
    // With a map of a single id the kernel denies setgroups permanently. The groups of an ordinary
    // user then stay, and give nothing inside that they do not give outside.
    if std::fs::read("/proc/self/setgroups").step(Step::TakeIds)?.starts_with(b"deny") {
        return Ok(());
    }
    setgroups(&[]).step(Step::TakeIds)
}

/// In a nested user namespace a program would have every capability over what it makes there.
fn forbid_nested_namespaces() -> Result<(), Failure> {
    const MAX: &str = "/proc/sys/user/max_user_namespaces";
    std::fs::write(MAX, "0").step_at(Step::ForbidNamespaces, MAX)
}

/// The kernel counts inotify instances and fanotify groups for the host's user as well, who has 128
/// of each for all containers and all other programs.
fn forbid_watches() -> Result<(), Failure> {
    ["/proc/sys/user/max_inotify_instances", "/proc/sys/user/max_fanotify_groups"]
        .into_iter()
        .try_for_each(|max| write_if_there(max, "0"))
}

/// The host decides where core dumps go, and no resource limit bounds a dump that goes to a
/// program. This filter of what is dumped does. Children inherit it, and a program with only a
/// read-only proc cannot change it.
fn dump_no_memory() -> Result<(), Failure> {
    write_if_there("/proc/self/coredump_filter", "0")
}

/// Writes a setting of the kernel. One that this kernel does not have is no failure.
fn write_if_there(path: &str, value: &str) -> Result<(), Failure> {
    match std::fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.step_at(Step::ResetInherited, path),
    }
}

fn reset_inherited() -> io::Result<()> {
    process::deny_tracing()?;
    process::reset_signals()?;
    lower_limits()?;
    process::new_session_keyring()?;
    process::forbid_privileges_to_children()?;
    nix::unistd::setsid()?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Lowers the limits of what the kernel counts for the host's user, whatever the container's ids
/// are: otherwise a few runs could use up the user's share. Also keeps programs from a higher
/// priority than the init's, whatever the host may set.
fn lower_limits() -> nix::Result<()> {
    let lowered = [
        // Counts the timers of timer_create(2) too. A user has 4000 for each GiB of the machine's
        // memory.
        (Resource::RLIMIT_SIGPENDING, 64),
        // A user has room for nine queues.
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        // No dump fits in one byte. If dumps go to a program of the host, the kernel starts that
        // program whatever the limit is, except for this value (coredump_pipe in Linux's
        // fs/coredump.c). The system-call filter keeps programs from changing it.
        (Resource::RLIMIT_CORE, 1),
        (Resource::RLIMIT_RTPRIO, 0),
        (Resource::RLIMIT_NICE, 0),
    ];
    for (resource, most) in lowered {
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, hard.min(most), hard.min(most))?;
    }
    Ok(())
}
