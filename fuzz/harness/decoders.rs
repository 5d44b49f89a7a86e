//! Both decoders: datagrams, descriptors and memfds through a real socket. `script.rs` says what an
//! input means.
//!
//! Invariant: a decoder accepts a message or says in short and printable text why not; a message
//! that it accepts says the same once it is encoded and decoded again; and every descriptor is
//! closed in the end.

mod script;
#[cfg(test)]
mod seeds;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::leaks::LeakCheck;
use crate::Error;
use crate::container::fuzzing::{Broken, Decoder, Frame, Peer, Reply, Request, State, encode, socket};

use script::Part;

/// The init's decoder, and its table of states.
pub fn requests(script: &[u8]) {
    play(Peer::Host, script, |request: &Request| {
        let admits = [State::Unshared, State::Born, State::Idle, State::Running].map(|state| state.admits(request));
        let possible = [
            [true, false, false, false],
            [false, true, false, false],
            [false, false, true, false],
            [false, false, true, true],
        ];
        assert!(possible.contains(&admits), "{request:?}: {admits:?}");
    });
}

/// The host's decoder.
pub fn replies(script: &[u8]) {
    play(Peer::Init, script, |_: &Reply| {});
}

/// Sends each datagram of a script, and receives the messages that they make.
fn play<T: Serialize + DeserializeOwned + Debug>(peer: Peer, mut script: &[u8], check: impl Fn(&T)) {
    let (leaks, writer) = LeakCheck::start();
    let writer = Arc::new(writer);
    let (theirs, ours) = socket::pair().expect("a socket");
    let mut decoder = Decoder::new(peer);
    while let Some(part) = Part::next(&mut script) {
        if !part.send(&theirs, &writer).expect("the script is played") {
            continue;
        }
        match decoder.receive::<T>(&ours, false) {
            Ok(Some(message)) => {
                check(&message.body);
                check_round_trip(message);
            }
            Ok(None) => break,
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(broken) => {
                let text = Error::lost(broken.to_string()).to_string();
                assert!(text.len() < 10_000, "{} bytes: {text}", text.len());
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
                break;
            }
        }
    }
    drop((theirs, ours, writer, decoder));
    leaks.finish();
}

/// A message that was decoded says the same once it is encoded and decoded again.
fn check_round_trip<T: Serialize + DeserializeOwned + Debug>(Frame { id, body, fds }: Frame<T>) {
    let (text, count) = (format!("{body:?}"), fds.len());
    let fds = fds.into_iter().map(Arc::new).collect();
    let (theirs, ours) = socket::pair().expect("a socket");
    // Encoded by the library, a message may be over a limit that it was not over as it came.
    let Ok(datagrams) = encode(id, &body, fds) else { return };
    // Here an init's replies may travel in a memfd too.
    let mut decoder = Decoder::new(Peer::Host);
    for datagram in datagrams {
        datagram.send(&theirs, false).expect("a datagram of the library's can be sent");
        match decoder.receive::<T>(&ours, false) {
            Ok(Some(again)) => {
                assert_eq!((again.id, format!("{:?}", again.body), again.fds.len()), (id, text, count));
                return;
            }
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("a message without an end: {text}");
}
