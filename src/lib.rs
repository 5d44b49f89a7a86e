//! Run untrusted programs in pre-forked Linux containers, from async Rust.
//!
//! A [`Container`] is a set of namespaces, a root file system and their init, started once and used for many runs. Its
//! handle is cheap to clone; every method gives a future.
//!
//! ```no_run
//! use cellblock::{Command, Container};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     cellblock::init(); // in a container's init this never returns
//!     let runtime = tokio::runtime::Runtime::new()?;
//!     runtime.block_on(async {
//!         let container = Container::builder().build().await?;
//!         let output = container.output(Command::new("python3").args(["-c", "print(6 * 7)"])).await?;
//!         assert_eq!(output.stdout, b"42\n");
//!         container.destroy().await;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! A program's failure is a [`Report`], and [`Report::verdict`] says in a word what became of it; an [`Error`] means that the
//! machine, or the call, was at fault. [`Limits`] are what a run may use.
#![warn(clippy::unwrap_used, unreachable_pub)]

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("cellblock runs on Linux, on x86_64 and aarch64");

pub mod command;
pub mod container;
pub mod doctor;
pub mod error;
pub mod limits;
pub mod mount;
pub mod pool;
pub mod process;
pub mod report;
pub mod seccomp;

mod cgroup;
mod fingerprint;
mod init;
mod observe;
mod pty;
mod sys;
mod wire;

pub use command::{Command, Stdio};
pub use container::{Container, ContainerBuilder};
pub use error::{Error, ErrorKind, Result};
pub use limits::Limits;
pub use mount::Mount;
pub use pool::{Lease, Pool};
pub use process::{Output, Process};
pub use report::{Report, Verdict};
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::container::actor::fuzzing::actor;
    pub use crate::container::launch::fuzzing::commands;
    pub use crate::init::files::fuzzing::paths;
    pub use crate::wire::fuzzing::{replies, requests};
}

/// Becomes a container's init, if this process was started to be one; otherwise does nothing.
///
/// Call it first in `main`, before any thread is started: by default a container's init is the host's own executable,
/// started again. A process that carries the init's argument and has a socket of the host as its standard input sets up,
/// makes pid 1 of new namespaces, serves, and never returns from here. Its exit status is 0 where the host closed the
/// socket, and 1 after a broken frame, a request out of place or a panic, which it names on standard error.
///
/// A service that forgets this call is no fork bomb: [`ContainerBuilder::build`] fails at once in a process that carries the
/// init's argument.
pub fn init() {
    init::enter();
}

/// Whether this process carries the init's argument.
fn init_is_asked_for() -> bool {
    init::is_asked_for()
}

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
