//! The init: pid 1 of a container, the trusted half of the library that shares the container with
//! untrusted programs.
//!
//! It is a blocking, single-threaded loop that carries out one request after the other and makes no
//! decisions.
//!
//! Invariant: the init exits when its socket closes (status 0) or when anything is wrong (status
//! 1). The kernel then kills every process of its pid namespace. A run is answered only when no
//! process of it is left.

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

use std::io;

use crate::sys::socket;
use crate::wire::INIT_ARGUMENT;

use host::End;
use pid_1::Init;
use stage_one::become_pid_1;

/// Whether this process was started to be an init, as its arguments say.
pub(crate) fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == INIT_ARGUMENT)
}

/// Becomes an init if this process was started to be one, and then never returns.
pub(crate) fn enter() {
    if !is_asked_for() || !socket::is_seqpacket(io::stdin()) {
        return;
    }
    // A panic must neither unwind into the caller's main nor reach the caller's own panic hook.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("cellblock-init: {panic}");
        std::process::exit(1);
    }));
    let status = match serve() {
        Ok(()) | Err(End::Closed) => 0,
        Err(End::Fatal(reason)) => {
            eprintln!("cellblock-init: {reason}");
            1
        }
    };
    std::process::exit(status);
}

/// Stage one returns once pid 1 exists; pid 1 returns when it has nothing left to serve.
fn serve() -> Result<(), End> {
    match become_pid_1()? {
        Some(host) => Init::new(host)?.serve(),
        None => Ok(()),
    }
}
