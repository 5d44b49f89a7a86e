//! Hints: what an error says about the machine that caused it.

use crate::error::Step;

use super::causes::cause;
use super::machine::Machine;
use super::settings::fix;

/// What to do about a failed step, where the machine stands in its way.
pub(crate) fn hint(step: Step, errno: Option<i32>) -> Option<String> {
    if let Some(obstacle) = cause(&Machine::THIS, step, errno) {
        let (seen, fix) = (obstacle.describe().seen, fix(&obstacle, Machine::THIS.platform()));
        return Some(format!("{seen}; to fix it: {fix}"));
    }
    // unshare(2) refuses a user namespace to a process with several threads.
    let has_threads = (step, errno) == (Step::Unshare, Some(libc::EINVAL));
    has_threads.then(|| {
        "a constructor of a library in the init's executable has started a thread: name another executable with \
         ContainerBuilder::init_exe, such as cellblock-init"
            .to_owned()
    })
}

/// What may keep an init from answering.
pub(crate) fn hint_of_silence(said_hello: bool) -> Option<String> {
    const NO_INIT: &str = "does the init's executable link this version of cellblock? If it does not, name one that does \
        with ContainerBuilder::init_exe: cellblock-init is one, and so is any program whose main calls cellblock::init()";
    match (said_hello, hint(Step::Serve, None)) {
        (true, hint) => hint,
        (false, None) => Some(NO_INIT.to_owned()),
        (false, Some(hint)) => Some(format!("{NO_INIT}. Or {hint}")),
    }
}
