//! The init: pid 1 of a container, the trusted half of the library that shares the container with
//! untrusted programs.
//!
//! It is a blocking, single-threaded loop that carries out one request after the other and makes no
//! decisions.
//!
//! Invariant: the init exits when its socket closes (status 0) or when anything is wrong (status
//! 1). The kernel then kills every process of its pid namespace. A run is answered only when no
//! process of it is left.

mod attached;
mod beside;
mod environment;
pub(crate) mod files;
mod host;
mod meter;
mod null;
mod pid_1;
mod rootfs;
mod run;
mod runner;
mod stage_one;
mod steps;

use std::os::unix::ffi::OsStrExt;

use crate::sys::before_main::before_main;
use crate::sys::{process, socket};
use crate::wire::INIT_ARGUMENT;

use host::End;
use pid_1::Init;
use stage_one::become_pid_1;

before_main!(enter);

/// Whether this process was started to be an init, as its arguments say.
pub(crate) fn is_asked_for() -> bool {
    let is_init = |argument: Option<&[u8]>| argument == Some(INIT_ARGUMENT.as_bytes());
    let mut arguments = std::env::args_os();
    if arguments.len() > 0 {
        return is_init(arguments.nth(1).as_deref().map(OsStrExt::as_bytes));
    }
    // Before `main`, musl has not given the arguments to the standard library yet.
    let arguments = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    is_init(arguments.split(|&byte| byte == 0).nth(1))
}

/// Becomes an init if this process was started to be one, and then never returns. For any other
/// process it is one system call.
///
/// A program with more rights than its caller has must not take orders from the caller's socket.
pub(crate) fn enter() {
    if !socket::is_seqpacket(rustix::stdio::stdin()) || !is_asked_for() || process::is_privileged_by_its_file() {
        return;
    }
    // A panic must not unwind into the caller of this function.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("cellblock-init: {panic}");
        process::exit_at_once(1);
    }));
    let status = match serve() {
        Ok(()) | Err(End::Closed) => 0,
        Err(End::Fatal(reason)) => {
            eprintln!("cellblock-init: {reason}");
            1
        }
    };
    process::exit_at_once(status);
}

/// Stage one returns once pid 1 exists; pid 1 returns when it has nothing left to serve.
fn serve() -> Result<(), End> {
    match become_pid_1()? {
        Some(host) => Init::new(host)?.serve(),
        None => Ok(()),
    }
}
