//! A named container, and the queue of its runs and resets.
//!
//! Invariant: runs and resets have their turns in the order of [`TurnQueue::join`], one at a time.

use cellblock::{Container, ContainerBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{mpsc, oneshot};

use crate::environment::Variable;

/// A container that is built, is being built, or could not be built.
pub struct Slot {
    pub container: Shared<BoxFuture<'static, cellblock::Result<Container>>>,
    pub turns: TurnQueue,
    /// The variables of a run that sets none.
    pub default_env: Vec<Variable>,
}

impl Slot {
    pub fn new(builder: ContainerBuilder, default_env: Vec<Variable>) -> Self {
        let container = async move { builder.build().await }.boxed().shared();
        Self { container, turns: TurnQueue::new(), default_env }
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.container.peek(), Some(Err(_)))
    }

    pub async fn destroy(self) {
        if let Ok(container) = self.container.await {
            container.destroy().await;
        }
    }
}

/// A queue of turns. A container runs commands in the order in which they reach it, but the tasks
/// that send them are polled in any order.
pub struct TurnQueue(mpsc::UnboundedSender<oneshot::Sender<Turn>>);

/// A turn ends when this is dropped.
pub type Turn = oneshot::Sender<()>;

impl TurnQueue {
    fn new() -> Self {
        let (queue, mut waiting) = mpsc::unbounded_channel::<oneshot::Sender<Turn>>();
        tokio::spawn(async move {
            while let Some(waiter) = waiting.recv().await {
                let (turn, end) = oneshot::channel();
                // The send fails if the run was killed while it waited.
                if waiter.send(turn).is_ok() {
                    // The turn is dropped, never used: its end is an error, and the only outcome.
                    let _ = end.await;
                }
            }
        });
        Self(queue)
    }

    /// Takes a place at the end of the queue. The receiver yields the turn.
    pub fn join(&self) -> oneshot::Receiver<Turn> {
        let (waiter, turn) = oneshot::channel();
        // This fails only while the runtime ends. The receiver then yields an error.
        let _ = self.0.send(waiter);
        turn
    }
}
