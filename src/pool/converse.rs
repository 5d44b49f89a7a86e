//! Programs that talk to each other: two runs in two containers, with their streams crossed.
//!
//! Invariant: once both programs run this process has no end of their pipes, so each sees the other's end as an end.

use std::pin::pin;

use futures_util::FutureExt;

use crate::command::Command;
use crate::error::{Error, Result};
use crate::process::{Output, pipe_of_two};

use super::{Lease, LeaseRequest, Pool};

/// One of two programs that talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that was named first.
    First,
    /// The other one.
    Second,
}

/// What came of two programs that talked to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversation {
    /// Whose run was over first, by the order in which this process heard of it or, where it heard of both at once, by how
    /// long they took. Where one ends because the other has, there are often less than a few milliseconds between them, and
    /// a busy machine may turn them around: a program that failed by itself is better known by its report.
    pub ended_first: Side,
    /// The first program's report, and what it wrote to its standard error, if its command sets no other.
    pub first: Output,
    /// The same of the second.
    pub second: Output,
}

impl Lease {
    /// Runs a program here and another one there: the standard output of each is the standard input of the other, whatever
    /// the commands say of those. Returns when both runs are over.
    ///
    /// The pipes are the programs' alone, so a limit on [output](crate::Limits::output) is held in its weaker form, if that
    /// will do.
    ///
    /// # Errors
    /// As [`Container::output`](crate::Container::output) of either; then the other is killed.
    ///
    /// # Cancel safety
    /// Dropping the future kills both programs.
    pub async fn converse(&self, command: &Command, other: &Lease, others: &Command) -> Result<Conversation> {
        let (to_first, from_second) = pipe_of_two()?;
        let (to_second, from_first) = pipe_of_two()?;
        let crossed = |command: &Command, stdin, stdout| {
            let mut command = command.clone();
            command.stdin(stdin).stdout(stdout);
            command
        };
        let (first, second) = {
            let (command, others) = (crossed(command, to_first, from_first), crossed(others, to_second, from_second));
            tokio::try_join!(self.start_output(&command), other.start_output(&others))?
        };
        let (mut first, mut second) = (pin!(first), pin!(second));
        tokio::select! {
            biased;
            output = &mut first => {
                let output = output?;
                match second.as_mut().now_or_never() {
                    Some(other) => Ok(both_at_once(output, other?)),
                    None => Ok(Conversation { ended_first: Side::First, first: output, second: second.await? }),
                }
            }
            output = &mut second => {
                let output = output?;
                Ok(Conversation { ended_first: Side::Second, first: first.await?, second: output })
            }
        }
    }
}

impl Pool {
    /// Leases two containers at once and runs a program in each, as [`Lease::converse`] does. A container that a program's
    /// failure cannot explain the failure of is replaced; it is not tried again.
    ///
    /// # Errors
    /// As [`lease_pair`](Self::lease_pair) and [`Lease::converse`].
    ///
    /// # Cancel safety
    /// As [`Lease::converse`]; the containers are returned.
    pub async fn converse(&self, first: &Command, second: &Command) -> Result<Conversation> {
        let memory = first.limits.memory_or_default().max(second.limits.memory_or_default());
        let (one, other) = self.pair(LeaseRequest::one(memory).times(2)).await?;
        let result = one.converse(first, &other, second).await;
        if result.as_ref().is_err_and(Error::is_retryable) {
            one.discard();
            other.discard();
        }
        result
    }
}

fn both_at_once(first: Output, second: Output) -> Conversation {
    let is_first = first.report.usage.wall <= second.report.usage.wall;
    Conversation { ended_first: if is_first { Side::First } else { Side::Second }, first, second }
}
