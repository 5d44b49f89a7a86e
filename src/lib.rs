//! Run untrusted programs in pre-forked Linux containers, from async Rust.
//!
//! A [`Container`] is a set of namespaces, a root file system and an init. It is started once and
//! then takes one run after another, each at close to the cost of a bare `posix_spawn`. A handle is
//! cheap to clone, every call is a future, and every future may be dropped.
//!
//! ```
//! use cellblock::{Command, Container};
//!
//! #[tokio::main]
//! async fn main() -> cellblock::Result<()> {
//!     let container = Container::builder().build().await?;
//!     let output = container.output(Command::new("sh").args(["-c", "echo $((6 * 7))"])).await?;
//!     assert_eq!(output.stdout_lossy(), "42\n");
//!     container.destroy().await;
//!     Ok(())
//! }
//! ```
//!
//! - A [`Command`] says what to run, and [`Limits`] say what the run may use.
//! - A [`Report`] says how the run ended and what it used. [`Report::verdict`] judges it in one
//!   word. The failure of a program is a report; an [`Error`] means that the machine or the call
//!   was at fault.
//! - A [`Pool`] keeps containers ready, leases them, and resets them between two leases.
//! - [`doctor::diagnose`] says what a machine lacks, and how to fix it.
//!
//! The [guide] has a page for each subject. Begin with the [first run](guide::first_run). Before a
//! service moves to Docker, Kubernetes or systemd, read [deploying](guide::deploying).
//!
//! # Features
//!
//! All features are off by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `images` | container images as roots: `Root::oci`, `Root::image` and `image::Store` |
//! | `metrics` | counters and histograms, through the crate [`metrics`](https://docs.rs/metrics) |
//! | `tar` | trees of files as tar streams: `Tree::pack_tar` and `Tree::unpack_tar` |
//! | `tracing` | a span for each container and run, through [`tracing`](https://docs.rs/tracing) |
//! | `tower` | `Pool::service`, a [`tower_service::Service`](https://docs.rs/tower-service) |
//!
//! # Platform
//!
//! Linux 5.12 or later, on x86_64 and aarch64, with user namespaces. Root is not needed.
#![warn(clippy::unwrap_used, unreachable_pub)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("cellblock runs on Linux, on x86_64 and aarch64");

pub mod command;
pub mod container;
pub mod doctor;
pub mod error;
pub mod guide;
#[cfg(feature = "images")]
#[cfg_attr(docsrs, doc(cfg(feature = "images")))]
pub mod image;
pub mod limits;
pub mod mount;
pub mod pool;
pub mod process;
pub mod report;
pub mod root;
pub mod seccomp;

mod cgroup;
mod fingerprint;
mod init;
mod log;
mod observe;
mod pty;
mod sys;
mod wire;
mod world;

pub use command::{Command, Stdio};
pub use container::{Beside, Container, ContainerBuilder};
pub use error::{Error, ErrorKind, Result};
pub use limits::Limits;
pub use mount::Mount;
pub use pool::{Lease, Pool};
pub use process::{Output, Process};
pub use report::{Report, Verdict};
pub use root::Root;

/// Becomes a container's init if this process was started as one; returns at once otherwise.
///
/// **A program need not call it.** By default a container's init is the host process's own
/// executable, started once more with an argument that marks it. Every executable that links this
/// library runs this function before `main`, so `#[tokio::main]`, `#[tokio::test]` and the test
/// harness work as they are. In a process that is no init it is one system call.
///
/// Two kinds of program call it in `main`: one that is nothing but an init, for
/// [`init_exe`](ContainerBuilder::init_exe), and one whose linker script drops `.init_array`. The
/// latter calls it before anything else.
///
/// In a process with that argument, and with the host process's socket as its standard input, this
/// function sets up the init, makes pid 1 of the new namespaces, serves, and never returns. The
/// exit status is 0 if the host process closed the socket. It is 1 after a broken frame, a request
/// out of place or a panic, which the init describes on standard error. A program that runs with
/// more rights than its caller, by a set-id bit or file capabilities, never becomes an init.
pub fn init() {
    init::enter();
}

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
