//! A container by its name, and whose turn it is there.

use cellblock::{Container, ContainerBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{mpsc, oneshot};

/// A container, or one that is being built, or why there is none.
pub(crate) struct Cell {
    pub(crate) container: Shared<BoxFuture<'static, cellblock::Result<Container>>>,
    pub(crate) turns: Turns,
}

impl Cell {
    pub(crate) fn new(builder: ContainerBuilder) -> Self {
        let container = async move { builder.build().await }.boxed().shared();
        Self { container, turns: Turns::new() }
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.container.peek(), Some(Err(_)))
    }

    pub(crate) async fn destroy(self) {
        if let Ok(container) = self.container.await {
            container.destroy().await;
        }
    }
}

/// Gives turns in the order in which they were asked for. A container orders what has reached it, but tasks reach it in
/// whatever order they are polled in.
pub(crate) struct Turns(mpsc::UnboundedSender<oneshot::Sender<Turn>>);

/// Dropping it gives the turn to the next.
pub(crate) type Turn = oneshot::Sender<()>;

impl Turns {
    fn new() -> Self {
        let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<Turn>>();
        tokio::spawn(async move {
            while let Some(asker) = asked.recv().await {
                let (turn, over) = oneshot::channel();
                // Who was killed while it waited is gone.
                if asker.send(turn).is_ok() {
                    let _ = over.await;
                }
            }
        });
        Self(ask)
    }

    pub(crate) fn next(&self) -> oneshot::Receiver<Turn> {
        let (asker, turn) = oneshot::channel();
        let _ = self.0.send(asker);
        turn
    }
}
