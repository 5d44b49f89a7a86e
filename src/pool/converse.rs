//! Two programs that talk to each other: two runs in two containers, with their streams crossed.
//!
//! Invariant: once both programs run, this process has no end of their pipes. Each program sees the
//! other one close its output as the end of its own input.

use std::borrow::Borrow;
use std::pin::pin;

use futures_util::FutureExt;

use crate::command::{Command, Stdio};
use crate::error::{Error, Result};
use crate::process::{Output, pipe_of_two};

use super::handle::Pool;
use super::lease::Lease;
use super::request::LeaseRequest;

/// One of two programs that talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first program.
    First,
    /// The second program.
    Second,
}

/// The result of two programs that talked to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversation {
    /// The side whose run ended first.
    ///
    /// This process compares when it heard of each end. If it heard of both at once it compares the
    /// wall times. Where one program ends because the other one has, there are often less than a
    /// few milliseconds between the ends, and a busy machine can reverse them. To tell which
    /// program failed by itself, look at its report.
    pub ended_first: Side,
    /// The first program's report, and its standard error if its command sets no other.
    pub first: Output,
    /// The second program's report, and its standard error if its command sets no other.
    pub second: Output,
}

impl Lease {
    /// Runs `command` here and `other_command` under another lease, and connects them: the standard
    /// output of each is the standard input of the other. Returns when both runs are over.
    ///
    /// The commands' own settings for these streams are ignored. Only the programs have the pipes,
    /// so a limit on [output](crate::Limits::output) takes its weaker form, if the command allows
    /// that.
    ///
    /// # Errors
    /// See [`Container::output`](crate::Container::output). If one program fails to run the other
    /// is killed.
    ///
    /// # Cancel safety
    /// If the future is dropped both programs are killed.
    pub async fn converse(
        &self,
        command: impl Borrow<Command>,
        other: &Lease,
        other_command: impl Borrow<Command>,
    ) -> Result<Conversation> {
        let (first, second) = start_crossed((self, command.borrow()), (other, other_command.borrow())).await?;
        wait_for_both(first, second).await
    }
}

impl Pool {
    /// Leases two containers at once and runs a program in each, as [`Lease::converse`] does.
    ///
    /// After a [retryable](Error::is_retryable) error both containers are discarded. The programs
    /// are not run again.
    ///
    /// # Errors
    /// See [`lease_pair`](Self::lease_pair) and [`Lease::converse`].
    ///
    /// # Cancel safety
    /// If the future is dropped both programs are killed and the containers returned.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: cellblock::Pool) -> cellblock::Result<()> {
    /// use cellblock::Command;
    ///
    /// let mut asks = Command::new("sh");
    /// asks.args(["-c", "echo 21; read answer; echo $answer >&2"]);
    /// let mut doubles = Command::new("sh");
    /// doubles.args(["-c", "read number; echo $((2 * number))"]);
    ///
    /// let talk = pool.converse(&asks, &doubles).await?;
    /// assert_eq!(talk.first.stderr, b"42\n");
    /// # Ok(()) }
    /// ```
    pub async fn converse(&self, first: impl Borrow<Command>, second: impl Borrow<Command>) -> Result<Conversation> {
        let (first, second) = (first.borrow(), second.borrow());
        let memory = first.limits.memory_or_default().max(second.limits.memory_or_default());
        let (one, other) = self.inner.acquire_pair(LeaseRequest::pair(memory)).await?;
        let result = one.converse(first, &other, second).await;
        if result.as_ref().is_err_and(Error::is_retryable) {
            Lease::discard(one);
            Lease::discard(other);
        }
        result
    }
}

/// Starts both programs, and closes this process's ends of their pipes.
async fn start_crossed(
    (one, command): (&Lease, &Command),
    (other, other_command): (&Lease, &Command),
) -> Result<(impl Future<Output = Result<Output>> + use<>, impl Future<Output = Result<Output>> + use<>)> {
    let (to_first, from_second) = pipe_of_two()?;
    let (to_second, from_first) = pipe_of_two()?;
    let command = with_streams(command, to_first, from_first);
    let other_command = with_streams(other_command, to_second, from_second);
    tokio::try_join!(one.start_output(&command), other.start_output(&other_command))
}

fn with_streams(command: &Command, stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Command {
    let mut command = command.clone();
    command.stdin(stdin).stdout(stdout);
    command
}

async fn wait_for_both(
    first: impl Future<Output = Result<Output>>,
    second: impl Future<Output = Result<Output>>,
) -> Result<Conversation> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    tokio::select! {
        biased;
        output = &mut first => {
            let first = output?;
            match second.as_mut().now_or_never() {
                Some(second) => Ok(order_by_wall_time(first, second?)),
                None => Ok(Conversation { ended_first: Side::First, first, second: second.await? }),
            }
        }
        output = &mut second => {
            let second = output?;
            Ok(Conversation { ended_first: Side::Second, first: first.await?, second })
        }
    }
}

fn order_by_wall_time(first: Output, second: Output) -> Conversation {
    let is_first = first.report.usage.wall <= second.report.usage.wall;
    Conversation { ended_first: if is_first { Side::First } else { Side::Second }, first, second }
}
