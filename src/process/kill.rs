//! The switch that ends a run.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::wire::KillReason;

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
