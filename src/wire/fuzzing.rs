//! What the fuzz targets do with their input: datagrams through a real socket, into the decoder that is fuzzed.
//!
//! Invariant: every input is a script, of datagrams one after another. Each has five bytes and a part:
//!
//! | byte | |
//! |---|---|
//! | 0 | 1: the part after its first byte goes into a sealed memfd, which comes along; 2: into one that is not sealed |
//! | 1 | how many descriptors come along, after that memfd |
//! | 2 | from 0xf9 on, how often the part's last byte is repeated, as [`REPEATED`] says |
//! | 3, 4 | the part's size, little-endian |

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{pipe2, read};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::datagram::MAX_PAYLOAD;
use super::*;
use crate::error::Error;
use crate::sys::{memory, socket};

/// The init's decoder, and the table of states.
pub fn requests(script: &[u8]) {
    play(Peer::Host, script, |request: &Request| {
        let admit = [State::Unshared, State::Born, State::Idle, State::Running].map(|state| state.admits(request));
        let possible = [[true, false, false, false], [false, true, false, false], [false, false, true, false]];
        assert!(possible.contains(&admit) || admit == [false, false, true, true], "{request:?}: {admit:?}");
    });
}

/// The host's decoder.
pub fn replies(script: &[u8]) {
    play(Peer::Init, script, |_: &Reply| {});
}

/// Around the limits of a datagram, of the kernel and of a payload.
const REPEATED: [usize; 7] = [1 << 10, 100 << 10, MAX_INLINE - 1, MAX_INLINE, 1 << 20, 2 << 20, MAX_PAYLOAD];

/// One datagram of a script.
struct Part<'a> {
    memfd: Option<bool>,
    fds: usize,
    repeat: usize,
    bytes: &'a [u8],
}

impl<'a> Part<'a> {
    fn next(script: &mut &'a [u8]) -> Option<Self> {
        let (&[place, fds, repeat, low, high], rest) = script.split_first_chunk()?;
        let size = rest.len().min(u16::from_le_bytes([low, high]).into());
        let (bytes, rest) = rest.split_at(size);
        *script = rest;
        Some(Self {
            memfd: match place {
                1 => Some(true),
                2 => Some(false),
                _ => None,
            },
            fds: fds.into(),
            repeat: repeat.checked_sub(0xf9).map_or(0, |number| REPEATED[usize::from(number)]),
            bytes,
        })
    }

    /// False where the kernel does not carry it.
    fn send(&self, to: &OwnedFd, fd: &OwnedFd) -> io::Result<bool> {
        if self.memfd.is_none() && self.repeat > 2 * MAX_INLINE {
            return Ok(false);
        }
        let filler = vec![self.bytes.last().copied().unwrap_or(0); self.repeat];
        let mut fds = vec![fd.as_fd(); self.fds];
        let memfd = match (self.memfd, self.bytes.split_first()) {
            (Some(sealed), Some((_, payload))) => Some(memfd_of(&[payload, &filler], sealed)?),
            _ => None,
        };
        let sent = match &memfd {
            Some(memfd) => {
                fds.insert(0, memfd.as_fd());
                socket::send(to, &self.bytes[..1], &fds, false)
            }
            None => socket::send(to, &[self.bytes, &filler].concat(), &fds, false),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
            Err(error) if [Some(libc::EMSGSIZE), Some(libc::EINVAL)].contains(&error.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn memfd_of(parts: &[&[u8]], sealed: bool) -> io::Result<OwnedFd> {
    if sealed {
        return memory::sealed("cellblock-frame", &parts.concat());
    }
    let mut memfd = File::from(memfd_create("cellblock-frame", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    memfd.write_all(&parts.concat())?;
    Ok(memfd.into())
}

/// Sends each datagram and receives what it makes whole.
fn play<T: Serialize + DeserializeOwned + Debug>(peer: Peer, mut script: &[u8], look: impl Fn(&T)) {
    let lowest_free = lowest_free();
    // Its descriptors all go along: once they are closed, wherever they are, nothing writes to this pipe any more.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let (theirs, ours) = socket::pair().expect("a socket");
    let mut decoder = Decoder::new(peer);
    while let Some(part) = Part::next(&mut script) {
        if !part.send(&theirs, &writer).expect("the script is played") {
            continue;
        }
        match decoder.receive::<T>(&ours, false) {
            Ok(Some(message)) => {
                look(&message.body);
                survives(message);
            }
            Ok(None) => break,
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(broken) => {
                let said = Error::lost(broken.to_string()).to_string();
                assert!(said.len() < 10_000, "{} bytes: {said}", said.len());
                assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
                break;
            }
        }
    }
    drop((theirs, ours, writer, decoder));
    assert_eq!(read(&reader, &mut [0]), Ok(0), "a descriptor is still open");
    drop(reader);
    // The tests of this crate open others meanwhile.
    if cfg!(fuzzing) {
        assert_eq!(self::lowest_free(), lowest_free, "a descriptor is still open");
    }
}

/// What was decoded says the same once it is encoded and decoded again.
fn survives<T: Serialize + DeserializeOwned + Debug>(Frame { id, body, fds }: Frame<T>) {
    let (said, count) = (format!("{body:?}"), fds.len());
    let fds = fds.into_iter().map(Arc::new).collect();
    let (theirs, ours) = socket::pair().expect("a socket");
    // What came in another form may be over a limit in this one.
    let Ok(datagrams) = encode(id, &body, fds) else { return };
    // The host may send every message; what an init may not is another matter.
    let mut decoder = Decoder::new(Peer::Host);
    for datagram in datagrams {
        datagram.send(&theirs, false).expect("what was encoded can be sent");
        match decoder.receive::<T>(&ours, false) {
            Ok(Some(again)) => {
                assert_eq!((again.id, format!("{:?}", again.body), again.fds.len()), (id, said, count));
                return;
            }
            Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("a message without an end: {said}");
}

/// The lowest number that a new descriptor can have.
fn lowest_free() -> i32 {
    use std::os::fd::AsRawFd;
    rustix::io::fcntl_dupfd_cloexec(io::stderr(), 0).expect("a free descriptor").as_raw_fd()
}
