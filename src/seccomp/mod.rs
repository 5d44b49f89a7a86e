//! System-call filters: which system calls programs may make (seccomp(2)).
//!
//! Each container has a [`Filter`], which refuses what no ordinary program needs. A command may
//! restrict its program further, to a list of [`Syscalls`].

// The kernel runs a filter before each system call. Installing one takes a good part of the time of
// a short run, so pid 1 installs the container's filter once, after it has made its root file
// system, and every run inherits it. The filter therefore allows what pid 1 still needs: mount and
// its family, `clone`, `setresuid`, `capset`. The kernel itself refuses these to programs, which
// have no capabilities, cannot gain any, and cannot make a user namespace in which they would have
// some (`user.max_user_namespaces` is 0 there). The filter refuses what no ordinary program needs
// and where the kernel's mistakes are often found, and what a program could do to a pid 1 with its
// own user id.
//
// Invariant: a call is decided by what the kernel itself looks at. An `int`, an `unsigned int` or a
// pid is the low half of its register; the high half, which the kernel ignores, changes no answer.
// A number of another architecture is never taken for one of this architecture.

pub(crate) mod allowlist;
mod arguments;
mod denylist;
mod filter;
mod program;
mod rule;
mod table;

#[cfg(test)]
mod tests;

pub use allowlist::{DefaultAction, Syscalls};
pub(crate) use denylist::Needs;
pub use filter::Filter;
