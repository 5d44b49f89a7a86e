//! The actor against a compromised init: real calls, outstanding and dropped, and replies of every
//! type to every id.
//!
//! An input's first byte says how patient the actor is. Every four bytes after it are an act and
//! three arguments, by [`ACTS`]. Most answers fit their requests, or would fit another. Invariant:
//! whatever the init sends, every call ends, an opened file is a regular one, and no descriptor
//! stays open; and once a reply does not fit, the container is dead, for one reason, which every
//! call returns from then on.

mod callers;
mod descriptors;
mod expectation;
mod hostile_init;
mod replies;
#[cfg(test)]
mod seeds;

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::Instant;

use super::fake_init::FakeInit;
use super::leaks::LeakCheck;
use crate::container::fuzzing::printable;
use crate::{Container, Error, ErrorKind};

use callers::{CALLS, Call, Callers};
use expectation::Expectation;
use hostile_init::HostileInit;

const ACTS: [Act; 16] = [
    Act::Call,
    Act::Call,
    Act::Call,
    Act::DropCall,
    Act::Yield,
    Act::Yield,
    Act::Receive,
    Act::Receive,
    Act::Answer,
    Act::Answer,
    Act::Answer,
    Act::Answer,
    Act::Garble,
    Act::SendPart,
    Act::Sleep,
    Act::Close,
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    /// A caller makes a call: which one, and of how many files.
    Call,
    /// A caller drops a call.
    DropCall,
    /// The actor's task runs.
    Yield,
    /// The init receives a request.
    Receive,
    /// The init answers: which request, with what reply, and with which descriptors.
    Answer,
    /// The init sends a reply with one byte changed.
    Garble,
    /// The init sends the first datagram of an unfinished message.
    SendPart,
    Sleep,
    /// The init closes its socket.
    Close,
}

/// Longer than any call takes.
const LONG: Duration = Duration::from_secs(60);

/// Plays a script.
pub fn actor(script: &[u8]) {
    let (leaks, writer) = LeakCheck::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play(script, writer));
    drop(runtime);
    leaks.finish();
}

async fn play(script: &[u8], writer: OwnedFd) {
    let Some((&first, script)) = script.split_first() else { return };
    let is_patient = first < 0xf0;
    let patience = if is_patient { LONG } else { Duration::from_millis(u64::from(first & 3)) };
    let (container, init) = FakeInit::start(patience);
    let mut init = HostileInit::new(init, writer);
    let mut callers = Callers::new(container.clone());
    if !is_patient {
        init.expectation = Expectation::Either;
    }
    for act in script.chunks_exact(4).take(256) {
        carry_out([act[0], act[1], act[2], act[3]], &mut callers, &mut init).await;
        if callers.poll().await {
            init.may_be_told_to_kill();
        }
    }
    match init.expectation {
        Expectation::Lives => check_life(&container, &mut callers, &mut init).await,
        Expectation::Dies => check_death(&container, &mut callers, &mut init).await,
        Expectation::Either => end(&container, &mut init).await,
    }
    check_ends(&container, &mut callers, init.expectation).await;
}

async fn carry_out([kind, a, b, c]: [u8; 4], callers: &mut Callers, init: &mut HostileInit) {
    match ACTS[usize::from(kind) % ACTS.len()] {
        Act::Call => callers.call(CALLS[usize::from(a) % CALLS.len()], b),
        Act::DropCall => {
            callers.drop_one(a);
            init.may_be_told_to_kill();
        }
        Act::Yield => {
            for _ in 0..=a % 4 {
                tokio::task::yield_now().await;
            }
        }
        Act::Receive => drop(init.receive()),
        Act::Answer => init.answer(a, b, c),
        Act::Garble => init.garble(a, b, c),
        Act::SendPart => init.send_part(),
        // Rare, because it takes time.
        Act::Sleep if a >= 0xf0 => tokio::time::sleep(Duration::from_millis(u64::from(b & 3))).await,
        Act::Sleep => {}
        Act::Close => init.close(),
    }
}

/// The init has kept to the protocol: every call is answered, and the container serves one more.
async fn check_life(container: &Container, callers: &mut Callers, init: &mut HostileInit) {
    let answered = async |callers: &mut Callers, init: &mut HostileInit| {
        wait_until("every call is answered", async || {
            while init.receive() {}
            init.answer_all();
            callers.poll().await;
            callers.is_done()
        })
        .await;
    };
    answered(callers, init).await;
    callers.call(Call::Ping, 0);
    answered(callers, init).await;
    assert!(callers.ends.pop().is_some_and(|ping| ping.is_none()), "the last ping");
    container.destroy().await;
}

/// A reply did not fit: at the next call at the latest, the container dies of it.
async fn check_death(container: &Container, callers: &mut Callers, init: &mut HostileInit) {
    callers.call(Call::Ping, 0);
    wait_until("a reply that does not fit ends the container", async || {
        while init.receive() {}
        callers.poll().await;
        container.is_dead()
    })
    .await;
}

/// Whether the container lives is open: the script ends it.
async fn end(container: &Container, init: &mut HostileInit) {
    init.close();
    // A copy of the init's end may be on its way to the host: the socket is then open, and the init
    // only silent.
    if init.has_sent_itself {
        container.destroy().await;
    }
}

/// Every call ends, and a dead container gives every call the same reason.
async fn check_ends(container: &Container, callers: &mut Callers, expectation: Expectation) {
    let death = tokio::time::timeout(LONG, container.death()).await.expect("the container ends");
    wait_until("every call ends", async || {
        callers.poll().await;
        callers.is_done()
    })
    .await;
    if expectation == Expectation::Dies {
        assert_eq!(death.kind(), ErrorKind::Lost);
    }
    CALLS.iter().for_each(|&call| callers.call(call, 1));
    callers.poll().await;
    assert!(callers.is_done(), "a dead container answers at once");
    let late = callers.ends.split_off(callers.ends.len() - CALLS.len());
    let is_of_death = |end: &Option<Error>| end.as_ref().is_some_and(|error| error.to_string() == death.to_string());
    assert!(late.iter().all(is_of_death), "{late:?}");
    for error in callers.ends.iter().flatten() {
        let text = error.to_string();
        assert!(text.chars().all(|c| c == printable(c)), "{text:?}");
        let is_of_death = matches!(error.kind(), ErrorKind::Lost | ErrorKind::Destroyed);
        assert!(!is_of_death || text == death.to_string(), "two deaths: {text} and {death}");
    }
}

async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn hostile_answers_are_played() {
        let mut random = Random::new(0x2545_f491);
        for _ in 0..100 {
            actor(&random.bytes(201));
        }
    }
}
