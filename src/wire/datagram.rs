//! How a message travels: as MessagePack in one `SOCK_SEQPACKET` datagram, with its file
//! descriptors. A larger payload travels in a sealed memfd (host to init only), and more
//! descriptors in further datagrams.
//!
//! Invariant: both ends check every size and count here before they allocate anything for it. A
//! received descriptor is owned before anything else can fail.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::memory;
use crate::sys::socket::{self, MAX_FDS_PER_DATAGRAM};

/// The largest payload in the datagram itself. The default limit of Linux is 208 KiB
/// (`net.core.wmem_default`).
pub(crate) const MAX_INLINE: usize = 128 << 10;
/// The largest payload at all. The kernel accepts at most 6 MiB of arguments and environment
/// (execve(2)).
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;
/// The most descriptors of one message.
pub(crate) const MAX_FDS: usize = 4096;
/// The deepest nesting in a message. It bounds the decoder's stack.
const MAX_DEPTH: usize = 16;

/// A received and decoded message with its descriptors.
#[derive(Debug)]
pub(crate) struct Frame<T> {
    pub(crate) id: u64,
    pub(crate) body: T,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why the received data is no message.
#[derive(Debug)]
pub(crate) enum Broken {
    Io(io::Error),
    Empty,
    TooLarge,
    TooManyFds,
    Header(u8),
    Memfd,
    Decode(rmp_serde::decode::Error),
    Trailing,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Empty => f.write_str("an empty frame"),
            Self::TooLarge => f.write_str("a frame over the size limit"),
            Self::TooManyFds => f.write_str("more file descriptors than a message may carry"),
            Self::Header(byte) => write!(f, "a frame with an unknown header ({byte:#x})"),
            Self::Memfd => f.write_str("a payload in a file that is not a sealed memfd"),
            Self::Decode(error) => write!(f, "a frame that does not decode: {error}"),
            Self::Trailing => f.write_str("bytes after a frame's end"),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bits of the header, which is one byte before the payload.
pub(super) const MORE_FDS: u8 = 1;
pub(super) const IN_MEMFD: u8 = 2;

/// One datagram to send.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<Arc<OwnedFd>>,
    /// The id of the message that this datagram begins. If the kernel refuses such a datagram, the
    /// stream stays whole; if it refuses a later one of the message, the stream is broken.
    pub(crate) begins: Option<u64>,
}

impl Datagram {
    pub(crate) fn send(&self, to: impl AsFd, wait: bool) -> io::Result<()> {
        let fds: Vec<_> = self.fds.iter().map(|fd| fd.as_fd()).collect();
        socket::send(to, &self.bytes, &fds, wait)
    }
}

/// Encodes a message into the datagrams that carry it. They must be sent in order and without other
/// datagrams between them.
pub(crate) fn encode<T: Serialize>(id: u64, body: &T, mut fds: Vec<Arc<OwnedFd>>) -> io::Result<Vec<Datagram>> {
    let mut bytes = vec![0];
    rmp_serde::encode::write(&mut bytes, &(id, body)).map_err(io::Error::other)?;
    if bytes.len() > MAX_PAYLOAD || fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    if bytes.len() > MAX_INLINE {
        let memfd = memory::sealed("cellblock-frame", &bytes[1..])?;
        bytes = vec![IN_MEMFD];
        fds.insert(0, memfd.into());
    }
    let mut datagrams = Vec::with_capacity(1);
    let mut begins = Some(id);
    loop {
        let rest = fds.split_off(fds.len().min(MAX_FDS_PER_DATAGRAM));
        bytes[0] |= if rest.is_empty() { 0 } else { MORE_FDS };
        datagrams.push(Datagram { bytes, fds, begins: begins.take() });
        if rest.is_empty() {
            return Ok(datagrams);
        }
        (bytes, fds) = (vec![0], rest);
    }
}

/// The process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It is trusted: its payloads may be in a memfd.
    Host,
    /// It is not trusted: its payloads must be in the datagram.
    Init,
}

/// Assembles messages from datagrams.
///
/// It keeps the received part of an unfinished message, so a caller can stop at any datagram and
/// continue later.
#[derive(Debug)]
pub(crate) struct Decoder {
    peer: Peer,
    buffer: Box<[u8]>,
    /// The header and payload of an unfinished message, from its first datagram.
    payload: Option<(u8, Vec<u8>)>,
    fds: Vec<OwnedFd>,
}

impl Decoder {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, buffer: vec![0; MAX_INLINE + 1].into(), payload: None, fds: Vec::new() }
    }

    /// Receives until a message is complete. `None` once the other end has closed. Without `wait`,
    /// `WouldBlock` if the rest of the message has not arrived yet.
    pub(crate) fn receive<T: DeserializeOwned>(
        &mut self,
        from: impl AsFd,
        wait: bool,
    ) -> Result<Option<Frame<T>>, Broken> {
        loop {
            let owned = self.fds.len();
            let size = socket::recv(&from, &mut self.buffer, &mut self.fds, wait)?;
            let Some((&header, payload)) = self.buffer[..size].split_first() else {
                return if self.payload.is_none() { Ok(None) } else { Err(Broken::Empty) };
            };
            if header & !(MORE_FDS | IN_MEMFD) != 0 {
                return Err(Broken::Header(header));
            }
            if self.fds.len() > MAX_FDS {
                return Err(Broken::TooManyFds);
            }
            if header & MORE_FDS != 0 {
                // Otherwise a peer could keep this loop busy forever.
                if self.fds.len() == owned {
                    return Err(Broken::Empty);
                }
                if self.payload.is_none() {
                    self.payload = Some((header, payload.to_owned()));
                }
                continue;
            }
            let first = self.payload.take();
            let (header, payload) = first.as_ref().map_or((header, payload), |(header, bytes)| (*header, bytes));
            let mut fds = std::mem::take(&mut self.fds);
            let (id, body) = if header & IN_MEMFD != 0 {
                if self.peer == Peer::Init || fds.is_empty() {
                    return Err(Broken::Memfd);
                }
                decode(&read_memfd(fds.remove(0).into())?)?
            } else {
                decode(payload)?
            };
            return Ok(Some(Frame { id, body, fds }));
        }
    }
}

fn read_memfd(memfd: File) -> Result<Vec<u8>, Broken> {
    if !memory::is_sealed(&memfd) {
        return Err(Broken::Memfd);
    }
    let size = memfd.metadata()?.len();
    if size > MAX_PAYLOAD as u64 {
        return Err(Broken::TooLarge);
    }
    let mut payload = vec![0; size as usize];
    memfd.read_exact_at(&mut payload, 0)?;
    Ok(payload)
}

fn decode<T: DeserializeOwned>(mut payload: &[u8]) -> Result<(u64, T), Broken> {
    let mut decoder = rmp_serde::Deserializer::new(&mut payload);
    decoder.set_max_depth(MAX_DEPTH);
    let message = Deserialize::deserialize(&mut decoder).map_err(Broken::Decode)?;
    if payload.is_empty() { Ok(message) } else { Err(Broken::Trailing) }
}
