//! Programs that run in a container: their streams, their outcome, their collected output.

// Invariant: a `Process` is the only owner of its run. Dropping it kills the run.

mod child;
mod kill;
mod output;
mod pipe;
mod run;
mod streams;

pub use crate::pty::Pty;
pub use child::Process;
pub(crate) use kill::KillSwitch;
pub use output::Output;
pub use pipe::OutputPipe;
pub(crate) use run::RunHandle;
pub(crate) use streams::{CommandStreams, ProgramFds, SealedInputs, open_streams, pipe_of_two};
