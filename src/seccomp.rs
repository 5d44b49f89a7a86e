//! Which system calls programs may make: a filter that the kernel runs before each of them (seccomp(2)).
//!
//! Installing a filter takes a good part of the time that a short run does, so it is done once: pid 1 installs it when it
//! has made its root file system, and every run inherits it. Hence it allows what pid 1 goes on to need (mount and its
//! family, `clone`, `setresuid`, `capset`), and the kernel itself refuses those to programs: they have no capabilities,
//! none to gain, and may make no user namespace in which they would have some (user.max_user_namespaces is 0 there). What
//! the filter refuses is what no ordinary program needs and the kernel's mistakes are often found in, and what a program
//! could do to pid 1 where it has the same user id.
//!
//! Invariant: a call is decided by what the kernel itself will look at. An `int`, an `unsigned int` or a pid is the low
//! half of its register, and the high half, which the kernel ignores, changes no answer; a foreign architecture's numbers
//! are never taken for this one's.

pub(crate) mod allowlist;

mod table;

pub use allowlist::{Otherwise, Syscalls};

use serde::{Deserialize, Serialize};

use crate::wire::FilterChoice;

use table::{Answer, Arch, Checks, Condition, NATIVE, Rule};

/// Which system calls programs may make.
///
/// Beyond the filter, programs may not mount: they have no capabilities. 32-bit programs and x32 ones do not run under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filter {
    /// Refuses what no ordinary program needs, with an error code that tells it to do without.
    ///
    /// `ENOSYS`: io_uring, `clone3` (the C library then calls `clone`), `process_vm_readv` and `process_vm_writev`,
    /// `process_madvise`, `process_mrelease`, `modify_ldt`, obsolete calls, other architectures' calls, and every call
    /// newer than Linux 6.18.
    ///
    /// `EPERM`: new namespaces, `setns`, `chroot`, `pivot_root`; bpf, perf events, keys, `userfaultfd`, fanotify,
    /// `open_by_handle_at`, `pidfd_getfd`, `kcmp`; NUMA policies other than reading them; modules, kexec, `reboot`, swap,
    /// accounting, quotas, the kernel's log, clocks, I/O ports, writing back all file systems (`sync`); leases of files;
    /// what lets another program read input that nobody typed (`TIOCSTI`, `TIOCLINUX`) or changes a terminal's line discipline; personalities other than those of 32-bit
    /// machines, old version numbers and a fixed address space; limits, priorities and processors of pid 1, and
    /// priorities of a whole user; SIGCHLD for pid 1, by a pidfd, or as what a descriptor sends; `PR_SCHED_CORE`; `SHM_LOCK`; dropping
    /// pages of files from memory (`POSIX_FADV_DONTNEED`); labels of IPv6 flows; questions about bridges and VLANs, for which
    /// drivers are loaded.
    ///
    /// `ENOMEM`: huge pages that the host has set aside (`MAP_HUGETLB`, `MFD_HUGETLB`, `SHM_HUGETLB`).
    ///
    /// Nothing, and success: setting the limit of core dumps, of which there are none ([`Limits`](crate::Limits)).
    ///
    /// `EAFNOSUPPORT`: sockets other than Unix, IPv4 and IPv6; netlink too, by which C libraries list network interfaces.
    /// `EPROTONOSUPPORT`: IP sockets that are not TCP, UDP, ICMP or raw.
    #[default]
    Denylist,
    /// Refuses the same, and ends a process that makes a call which nobody makes by accident, by SIGSYS. Where that is the
    /// run's first process the verdict is [`ForbiddenSyscall`](crate::Verdict::ForbiddenSyscall).
    ///
    /// An error code, as by [`Denylist`](Self::Denylist), is still all that comes of the calls that C libraries,
    /// languages' runtimes and debuggers try and can do without: those that answer `ENOSYS` except for other
    /// architectures, and `kcmp`, `sync`, leases, SIGCHLD, core scheduling, pages of files, huge pages, NUMA policies, reading of clock corrections, personalities and sockets.
    /// What is left to the kernel to refuse, such as mounting, ends nobody either.
    DenylistKill,
    /// No filter at all.
    Off,
}

/// Whether `clone3`, whose flags no filter can see, is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clone3 {
    /// Nobody knows of it, and the C library falls back on `clone`.
    Refused,
    /// Pid 1 needs it, to start programs in a cgroup. Programs that ask for namespaces are refused by the kernel alone.
    Allowed,
}

/// An instruction of a filter.
pub(crate) type Instruction = libc::sock_filter;

impl From<Filter> for FilterChoice {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Denylist => Self::Denylist { kills: false },
            Filter::DenylistKill => Self::Denylist { kills: true },
            Filter::Off => Self::Off,
        }
    }
}

impl FilterChoice {
    /// The filter as the kernel takes it; `None` if there is no filter.
    pub(crate) fn compile(self, clone3: Clone3) -> Option<Vec<Instruction>> {
        match self {
            Self::Denylist { kills } => Some(compile(&NATIVE, kills, clone3)),
            Self::Off => None,
        }
    }
}

/// Where struct seccomp_data has the call's number, the architecture and the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A part of the numbers' line, up to the next.
struct Segment {
    first: u32,
    leaf: Leaf,
}

enum Leaf {
    Return(u32),
    Check(&'static Checks),
}

/// Every path to an answer that no argument decides consists of what the kernel can follow when a filter is installed:
/// since Linux 5.11 it remembers the calls that are always allowed, and does not run the filter for them.
fn compile(arch: &Arch, kills: bool, clone3: Clone3) -> Vec<Instruction> {
    let mut code = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, arch.audit, 1, 0),
        finish(Answer::Forbid(libc::ENOSYS).action(kills)),
        load(NUMBER),
    ];
    code.extend(search(&segments(arch, kills, clone3), kills));
    code
}

/// The whole line of numbers, in order and without holes.
fn segments(arch: &Arch, kills: bool, clone3: Clone3) -> Vec<Segment> {
    let leaf = |rule: &Rule| match rule {
        Rule::Always(answer) => Leaf::Return(answer.action(kills)),
        Rule::Check(checks) => Leaf::Check(checks),
    };
    let calls = arch.calls.iter().filter(|(number, _)| clone3 == Clone3::Refused || *number != arch.clone3);
    let calls = calls.map(|(number, rule)| (*number, *number, leaf(rule)));
    let strangers =
        arch.strangers.iter().map(|(first, last, answer)| (*first, *last, Leaf::Return(answer.action(kills))));
    let mut ruled: Vec<_> = calls.chain(strangers).collect();
    ruled.sort_unstable_by_key(|(first, ..)| *first);

    let mut segments: Vec<Segment> = Vec::new();
    let mut add = |first, leaf| match (segments.last(), &leaf) {
        (Some(Segment { leaf: Leaf::Return(before), .. }), Leaf::Return(action)) if before == action => {}
        _ => segments.push(Segment { first, leaf }),
    };
    let mut next = Some(0);
    for (first, last, leaf) in ruled {
        if next != Some(first) {
            add(next.expect("nothing comes after the last number"), Leaf::Return(libc::SECCOMP_RET_ALLOW));
        }
        add(first, leaf);
        next = last.checked_add(1);
    }
    assert_eq!(next, None, "the strangers reach up to the last number");
    segments
}

/// Finds the segment of the number that was loaded, by halves, and does what it says.
fn search(segments: &[Segment], kills: bool) -> Vec<Instruction> {
    match segments {
        [] => unreachable!("the line of numbers is not empty"),
        [Segment { leaf: Leaf::Return(action), .. }] => vec![finish(*action)],
        [Segment { leaf: Leaf::Check(checks), .. }] => check(checks, kills),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let low_code = search(low, kills);
            let mut code = match u8::try_from(low_code.len()) {
                Ok(_) => vec![jump(libc::BPF_JGE, high[0].first, low_code.len(), 0)],
                // Further than a condition can jump.
                Err(_) => vec![
                    jump(libc::BPF_JGE, high[0].first, 0, 1),
                    statement(libc::BPF_JMP | libc::BPF_JA, low_code.len() as u32),
                ],
            };
            code.extend(low_code);
            code.extend(search(high, kills));
            code
        }
    }
}

fn check(checks: &Checks, kills: bool) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, answer) in checks.cases {
        let met = vec![finish(answer.action(kills))];
        code.extend(conditions.iter().rev().fold(met, |met, condition| require(condition, met)));
    }
    code.push(finish(checks.otherwise.action(kills)));
    code
}

/// Goes on with `met`, or skips it.
fn require(condition: &Condition, met: Vec<Instruction>) -> Vec<Instruction> {
    let mut code = vec![load(ARGUMENTS + 4 * condition.word)];
    if condition.mask != u32::MAX {
        code.push(statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, condition.mask));
    }
    let values = condition.among;
    for (index, value) in values.iter().enumerate() {
        let left = values.len() - 1 - index;
        code.push(jump(libc::BPF_JEQ, *value, left, if left == 0 { met.len() } else { 0 }));
    }
    code.extend(met);
    code
}

fn load(offset: u32) -> Instruction {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn finish(action: u32) -> Instruction {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

fn statement(code: u32, k: u32) -> Instruction {
    Instruction { code: code as u16, jt: 0, jf: 0, k }
}

/// Skips this many instructions where the comparison holds, and where it does not.
fn jump(comparison: u32, k: u32, holds: usize, fails: usize) -> Instruction {
    // The programs are few and made of constants, and the tests make every one.
    let skip = |count| u8::try_from(count).expect("a jump of at most 255 instructions");
    let code = libc::BPF_JMP | comparison | libc::BPF_K;
    Instruction { code: code as u16, jt: skip(holds), jf: skip(fails), k }
}

#[cfg(test)]
mod tests;
