//! Programs that run in a container: their streams, their outcome, their collected output.

// Invariant: a `Process` is the only owner of its run. Dropping it kills the run.

mod child;
mod kill;
mod output;
mod pipe;
mod run;
mod signal;
mod streams;

pub use crate::pty::Pty;
pub use child::Process;
pub use kill::KillHandle;
pub(crate) use kill::KillSwitch;
pub use output::Output;
pub use pipe::OutputPipe;
pub(crate) use run::RunHandle;
pub use signal::Signal;
pub(crate) use streams::{CommandStreams, ProgramFds, SealedInputs, open_streams, pipe_of_two};
