//! Conversations that keep to the protocol, and the smallest ones that do not.

use super::super::seeds::{self, Seed};
use super::callers::{CALLS, Call};
use super::descriptors::{DESCRIPTORS, Descriptor};
use super::{ACTS, Act, actor};

const YIELD: [u8; 4] = act(Act::Yield, 3, 0, 0);
const RECEIVE: [u8; 4] = act(Act::Receive, 0, 0, 0);
const CLOSE: [u8; 4] = act(Act::Close, 0, 0, 0);
/// Answers the first request that is owed a reply, with one that fits.
const ANSWER: [u8; 4] = act(Act::Answer, 0, 0, 0);
/// Answers the last request once more.
const ANSWER_AGAIN: [u8; 4] = act(Act::Answer, 0xfc, 0, 0);
const ANNOUNCE: [u8; 4] = act(Act::Answer, 0, 17, 0);

const fn act(act: Act, a: u8, b: u8, c: u8) -> [u8; 4] {
    let mut kind = 0;
    while ACTS[kind] as u8 != act as u8 {
        kind += 1;
    }
    [kind as u8, a, b, c]
}

/// A call about two files.
fn call(call: Call) -> [u8; 4] {
    let number = CALLS.iter().position(|&it| it == call).unwrap();
    act(Act::Call, number as u8, 1, 0)
}

/// Answers with the last descriptor of this kind.
fn answer_with(descriptor: Descriptor) -> [u8; 4] {
    let number = DESCRIPTORS.iter().position(|&it| it == descriptor).unwrap();
    act(Act::Answer, 0, 0, (8 + number as u8) << 3)
}

fn script(acts: &[&[[u8; 4]]]) -> Vec<u8> {
    [&[0], acts.concat().as_flattened()].concat()
}

fn seeds() -> [Seed; 7] {
    let received = |it| [call(it), YIELD, RECEIVE];
    let every: Vec<_> = CALLS.iter().map(|&it| [call(it), YIELD, RECEIVE, ANSWER, YIELD]).collect();
    let several = [
        &[Call::Ping, Call::Open, Call::Delete, Call::Symlink, Call::Run].map(call)[..],
        &[YIELD, RECEIVE, RECEIVE, RECEIVE, RECEIVE, RECEIVE],
    ];
    let several = several.concat();
    let answers = [4, 2, 1, 0, 0].map(|whose| act(Act::Answer, whose, 0, 0));
    let beside = [
        &[call(Call::Run), YIELD, RECEIVE, call(Call::RunBeside), call(Call::RunBeside), YIELD, RECEIVE, RECEIVE][..],
        &[act(Act::DropCall, 1, 0, 0), YIELD, act(Act::Answer, 1, 0, 0), YIELD, ANSWER, YIELD, ANSWER],
    ];
    [
        ("beside", script(&beside)),
        ("every_call", script(&[every.as_flattened()])),
        ("out_of_order", script(&[&several, &answers])),
        ("pipes", script(&[&received(Call::Open), &[answer_with(Descriptor::LeakCheck)]])),
        ("twice", script(&[&received(Call::Ping), &[ANSWER, ANSWER_AGAIN]])),
        ("not_its_own", script(&[&received(Call::RunWithHook), &[ANNOUNCE]])),
        ("closed", script(&[&several, &[CLOSE]])),
    ]
}

#[test]
fn the_seeds_are_played() {
    seeds::play("actor", seeds(), actor);
}
