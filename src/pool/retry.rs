//! When a pool does work once more.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// When a pool does the same work once more in another container, for
/// [`PoolBuilder::retry`](crate::pool::PoolBuilder::retry).
///
/// It is for [`Pool::run`](crate::Pool::run), [`Pool::output`](crate::Pool::output), the jobs of
/// [`Pool::stream`](crate::Pool::stream) and the tower service. Default: [`once`](Self::once),
/// after errors that are [retryable](Error::is_retryable). The failure of a program is a report,
/// and never retried.
///
/// Whatever the policy says, a container is replaced after a retryable error in it.
///
/// ```
/// use cellblock::pool::Retry;
/// use cellblock::{Container, ErrorKind, Pool};
///
/// let retry = Retry::times(3)
///     .on(|error| matches!(error.kind(), ErrorKind::Lost | ErrorKind::Host))
///     .hook(|retry, error| println!("retry {retry} after: {error}"));
/// let builder = Pool::builder(Container::builder()).retry(retry);
/// ```
#[derive(Clone)]
#[must_use = "a policy does nothing until a pool has it"]
pub struct Retry {
    times: u32,
    applies_to: Arc<dyn Fn(&Error) -> bool + Send + Sync>,
    hook: Option<Arc<Hook>>,
}

type Hook = dyn Fn(u32, &Error) + Send + Sync;

impl Retry {
    /// One retry.
    pub fn once() -> Self {
        Self::times(1)
    }

    /// No retry: the first error is the result.
    pub fn never() -> Self {
        Self::times(0)
    }

    /// Up to this many retries, each in another container.
    pub fn times(retries: u32) -> Self {
        Self { times: retries, applies_to: Arc::new(Error::is_retryable), hook: None }
    }

    /// Sets the errors after which work is done once more. Default: [`Error::is_retryable`].
    ///
    /// Work that fails because of its own arguments fails again: retry only what the machine can
    /// change.
    pub fn on(self, applies_to: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        Self { applies_to: Arc::new(applies_to), ..self }
    }

    /// Sets a function that is called before each retry, with its number, from 1, and the error
    /// that causes it. It runs on the caller's task, and must not block. Default: none.
    pub fn hook(self, hook: impl Fn(u32, &Error) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)), ..self }
    }

    /// Whether another attempt follows after `retries` retries and this error. If so, calls the
    /// hook.
    pub(super) fn allows(&self, retries: u32, error: &Error) -> bool {
        let is_allowed = retries < self.times && (self.applies_to)(error);
        if let Some(hook) = self.hook.as_ref().filter(|_| is_allowed) {
            hook(retries + 1, error);
        }
        is_allowed
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::once()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("times", &self.times).finish_non_exhaustive()
    }
}
