//! Stage one: from a process that the host has started to pid 1 of new namespaces.
//!
//! Invariant: a step that fails is told to the host, and is the end. What is done here once holds for all that pid 1 starts.

use std::io;

use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, setgroups, setpgid, setresgid, setresuid};

use crate::error::{Failure, Step};
use crate::sys::{clone, process};
use crate::wire::{self, Reply, Request, State};

use super::host::{End, Host};

/// Unshares, waits for the id maps, and makes pid 1. `None` in stage one itself, once that is done.
pub(super) fn become_pid_1() -> Result<Option<Host>, End> {
    let mut host = Host::from_stdin()?;
    // Pid 1 is in this group until the host has its pidfd: so it can be found, and reaped, whenever it dies.
    let grouped = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    host.told(grouped.map_err(|error| Failure::new(Step::ResetInherited, error)))?;
    let named = process::set_name(c"cellblock-init");
    host.told(named.map_err(|error| Failure::new(Step::ResetInherited, error)))?;
    // Before it has other ids, with which it may not.
    host.told(dump_no_memory())?;
    // The user namespace first: while the host writes its maps, the others are made, of which the network's takes longest.
    host.told(unshare(CloneFlags::CLONE_NEWUSER))?;
    host.send(0, &Reply::Hello(wire::VERSION), Vec::new())?;
    let others = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    host.told(unshare(others))?;

    let started = host.receive(State::Unshared)?;
    if let Request::Start { cgroup_namespace: true } = started.body {
        host.told(unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    host.told(take_ids())?;
    host.told(forbid_nested_namespaces())?;
    host.told(forbid_watches())?;
    let forked = clone::fork_to_parent().map_err(|error| Failure::new(Step::ForkPid1, error));
    if !host.told(forked)? {
        return Ok(None);
    }
    let failure = |error| Failure::new(Step::ResetInherited, error);
    let pidfd = host.told(process::Pidfd::of_self().map_err(failure))?;
    host.send(0, &Reply::Started, vec![pidfd.into()])?;
    host.told(reset_inherited().map_err(failure))?;
    Ok(Some(host))
}

fn unshare(namespaces: CloneFlags) -> Result<(), Failure> {
    nix::sched::unshare(namespaces).map_err(|error| Failure::new(Step::Unshare, error))
}

fn take_ids() -> Result<(), Failure> {
    let take = || {
        setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
        setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
        // Where only one id is mapped the kernel denies setgroups for good: the groups of an ordinary user stay, and
        // give nothing inside that they do not give outside.
        if std::fs::read("/proc/self/setgroups")?.starts_with(b"deny") {
            return Ok(());
        }
        Ok(setgroups(&[])?)
    };
    take().map_err(|error: io::Error| Failure::new(Step::TakeIds, error))
}

/// In a user namespace of its own a program would have every capability over what it makes there.
fn forbid_nested_namespaces() -> Result<(), Failure> {
    const MOST: &str = "/proc/sys/user/max_user_namespaces";
    std::fs::write(MOST, "0").map_err(|error| Failure::at(Step::ForbidNamespaces, MOST, error))
}

/// What a container has of inotify's and fanotify's is the host's user's as well, who has 128 of each for all containers and
/// everything else.
fn forbid_watches() -> Result<(), Failure> {
    for most in ["max_inotify_instances", "max_fanotify_groups"] {
        let most = format!("/proc/sys/user/{most}");
        match std::fs::write(&most, "0") {
            // A kernel without.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            written => written.map_err(|error| Failure::at(Step::ResetInherited, most, error))?,
        }
    }
    Ok(())
}

/// Lowers, for itself and all that it starts, the limits of what the kernel counts for the host's user too, whatever ids a
/// container has: else a few runs could take all of it. And nobody gets ahead of the init, whatever the host may.
fn lower_limits() -> nix::Result<()> {
    let lowered = [
        // With the timers of timer_create(2). A user has 4000 for each GiB of the machine's memory.
        (Resource::RLIMIT_SIGPENDING, 64),
        // A user has room for nine queues.
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        // No dump is as small as that. Where dumps go to a program of the host's, the kernel starts it whatever the limit is,
        // unless it is this one (coredump_pipe in Linux's fs/coredump.c). The filter keeps it so.
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

/// Where core dumps go is the host's to say and, where they go to a program, no resource limit bounds them. What is dumped
/// does, and it is inherited: it cannot be changed by who has only a read-only proc.
fn dump_no_memory() -> Result<(), Failure> {
    const FILTER: &str = "/proc/self/coredump_filter";
    match std::fs::write(FILTER, "0") {
        // A kernel that makes no dumps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.map_err(|error| Failure::at(Step::ResetInherited, FILTER, error)),
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
