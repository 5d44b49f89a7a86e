//! The switch that ends a run.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::wire::KillReason;

/// Kills a run from anywhere, from [`Process::kill_handle`](crate::Process::kill_handle).
///
/// It keeps neither the run nor the container alive.
///
/// ```no_run
/// # async fn example(mut process: cellblock::Process) -> cellblock::Result<()> {
/// let handle = process.kill_handle();
/// tokio::spawn(async move {
///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///     handle.kill();
/// });
/// println!("{}", process.wait().await?.status);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct KillHandle(KillSwitch);

impl KillHandle {
    pub(super) fn new(switch: KillSwitch) -> Self {
        Self(switch)
    }

    /// Kills the program and everything that it started, like
    /// [`Process::start_kill`](crate::Process::start_kill). No effect on a run that is over.
    pub fn kill(&self) {
        self.0.kill(KillReason::Request);
    }
}

/// Kills a run, once. The first reason counts.
#[derive(Clone, Debug)]
pub(crate) struct KillSwitch(Arc<Mutex<Option<oneshot::Sender<KillReason>>>>);

impl KillSwitch {
    /// A switch, and the receiver that resolves when it is used.
    pub(crate) fn new() -> (Self, oneshot::Receiver<KillReason>) {
        let (sender, killed) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), killed)
    }

    pub(super) fn kill(&self, reason: KillReason) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The receiver is gone if the run is over.
            sender.send(reason).ok();
        }
    }
}
