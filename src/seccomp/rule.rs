//! The answer to a call, and the conditions that it depends on.

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    /// Success without effect: what the caller asks for holds anyway.
    Ignore,
    /// An error number. C libraries, runtimes or debuggers make the call on their own, and can do
    /// without.
    Refuse(i32),
    /// An error number or, under a filter that kills, the end of the process. No program makes the
    /// call by accident.
    Forbid(i32),
}

impl Answer {
    /// What the filter returns to the kernel.
    pub(crate) fn action(self, kills: bool) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Ignore => libc::SECCOMP_RET_ERRNO,
            Self::Forbid(_) if kills => libc::SECCOMP_RET_KILL_PROCESS,
            Self::Refuse(errno) | Self::Forbid(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Rule {
    Always(Answer),
    Check(&'static Checks),
}

/// The answer of the first case whose conditions are all met, or the default.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) cases: &'static [(&'static [Condition], Answer)],
    pub(crate) default: Answer,
}

/// A condition on a word of the arguments: its bits in `mask` are one of the values in `among`.
#[derive(Debug)]
pub(crate) struct Condition {
    /// The word's index. Each argument has two words of 32 bits, the low one first, since both
    /// architectures are little-endian.
    pub(crate) word: u32,
    pub(crate) mask: u32,
    pub(crate) among: &'static [u32],
}

pub(crate) const fn refuse(errno: i32) -> Rule {
    Rule::Always(Answer::Refuse(errno))
}

pub(crate) const fn forbid(errno: i32) -> Rule {
    Rule::Always(Answer::Forbid(errno))
}

pub(crate) const fn low(argument: u32, among: &'static [u32]) -> Condition {
    masked(argument, u32::MAX, among)
}

pub(crate) const fn masked(argument: u32, mask: u32, among: &'static [u32]) -> Condition {
    Condition { word: 2 * argument, mask, among }
}

pub(crate) const fn high(argument: u32, among: &'static [u32]) -> Condition {
    Condition { word: 2 * argument + 1, mask: u32::MAX, among }
}
