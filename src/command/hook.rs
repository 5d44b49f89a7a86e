//! The hook that sees a program's process before the program is executed.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

/// A function that is called with the process's id and its pidfd.
#[derive(Clone)]
pub(crate) struct PidHook(Arc<dyn Fn(u32, OwnedFd) -> Decision + Send + Sync>);

/// Whether the program may be executed.
type Decision = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl PidHook {
    pub(super) fn new<H, F>(hook: H) -> Self
    where
        H: Fn(u32, OwnedFd) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self(Arc::new(move |pid, pidfd| Box::pin(hook(pid, pidfd))))
    }

    pub(crate) fn decide(&self, pid: u32, pidfd: OwnedFd) -> Decision {
        (self.0)(pid, pidfd)
    }
}

impl fmt::Debug for PidHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PidHook")
    }
}
