//! How much of a program's outputs is kept.

/// What [`Container::output`](crate::Container::output) does when a program writes more than is
/// kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Reads the rest and discards it, so that the program never blocks on a full pipe.
    Discard,
    /// Kills the run.
    Kill,
}

/// How much of each output is kept, and what happens to the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capture {
    pub(crate) bytes: usize,
    pub(crate) overflow: Overflow,
}
