//! The tokio runtime of the commands.

use std::io;

use tokio::runtime::Runtime;

/// Runs a future to its end on a new multi-thread runtime.
///
/// It does not wait for blocked threads: one of them may be in a read of standard input that never
/// returns.
pub fn block_on<T, E: From<io::Error>>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = Runtime::new()?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
