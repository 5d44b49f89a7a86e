//! The init's commands: a real init, and requests as a host may send them.
//!
//! Every four bytes of an input are an act and three arguments, by [`ACTS`]. Invariant: the init
//! answers each request, in order and in time, whatever programs make of its directory meanwhile.
//! At a script's end its fingerprint and its descriptors are those of the beginning, and it serves
//! the next script. An init that a script ends says why it ends.

mod check;
mod descriptors;
mod draft;
mod inputs;
mod rig;
#[cfg(test)]
mod seeds;
mod session;

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use rig::Rig;

const ACTS: [Act; 28] = [
    Act::Open,
    Act::Open,
    Act::Symlink,
    Act::MakeDirectories,
    Act::Delete,
    Act::Rename,
    Act::Inspect,
    Act::Ping,
    Act::Run,
    Act::Run,
    Act::RunBeside,
    Act::Program,
    Act::Program,
    Act::Strings,
    Act::Fds,
    Act::Terminal,
    Act::Gate,
    Act::Limit,
    Act::Affinity,
    Act::Times,
    Act::Filter,
    Act::Directory,
    Act::Kill,
    Act::Reset,
    Act::Fingerprint,
    Act::Settle,
    Act::Last,
    Act::Freeze,
];

#[derive(Clone, Copy)]
enum Act {
    Open,
    Symlink,
    MakeDirectories,
    Delete,
    Rename,
    /// Asks for metadata, for a link's target, or for a directory.
    Inspect,
    Ping,
    /// Runs the draft that the acts before have made.
    Run,
    /// Runs it beside the run that is going on.
    RunBeside,
    Program,
    Strings,
    Fds,
    Terminal,
    Gate,
    Limit,
    Affinity,
    Times,
    Filter,
    Directory,
    /// Kills a run, or sends a signal to its program.
    Kill,
    Reset,
    /// Makes the present files those that a reset restores.
    Freeze,
    Fingerprint,
    /// Waits for the replies, or for a moment.
    Settle,
    /// Something that this init does not survive.
    Last,
}

/// Longer than any reply takes.
const LONG: Duration = Duration::from_secs(30);

thread_local! {
    /// The init of the last script, if that script left it usable.
    static RIG: RefCell<Option<Rig>> = const { RefCell::new(None) };
}

/// Plays a script. The fuzzer cannot see the init's coverage, so `see` is told a number for each
/// kind of reply.
pub fn commands(init_exe: &Path, script: &[u8], see: &mut dyn FnMut(usize)) {
    RIG.with_borrow_mut(|rig| {
        *rig = rig.take().unwrap_or_else(|| Rig::new(init_exe)).play(script, see);
    });
}
