//! The signals that end a command early: SIGINT and SIGTERM.
//!
//! Invariant: once [`Interrupts::catch`] has returned, neither signal kills this process, so a
//! command can destroy its containers before it exits.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Starts to catch the signals. Call it before the first container is built.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal. Returns the exit code that a shell gives a process killed by it, 128+n.
    pub async fn recv(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        128 + kind.as_raw_value() as u8
    }
}
