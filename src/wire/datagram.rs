//! How a message travels: as MessagePack in one `SOCK_SEQPACKET` datagram, with its file descriptors. What does not fit there
//! travels in a sealed memfd (the payload, host to init only) or in further datagrams (the descriptors).
//!
//! Invariant: every size and count is checked here, at both ends, before anything is allocated for it; and a descriptor that
//! has arrived is owned before anything else can fail.

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

/// The largest payload that travels in the datagram itself. Linux takes 208 KiB by default (`net.core.wmem_default`).
pub(crate) const MAX_INLINE: usize = 128 << 10;
/// The largest payload of all: the kernel takes 6 MiB of arguments and environment at most (execve(2)).
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;
/// The most fds that one message carries.
pub(crate) const MAX_FDS: usize = 4096;
/// No message nests deeper than this; a decoder's stack is bounded by it.
const MAX_DEPTH: usize = 16;

/// A message that has arrived, decoded, with the fds that came along.
#[derive(Debug)]
pub(crate) struct Frame<T> {
    pub(crate) id: u64,
    pub(crate) body: T,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why what has arrived is no message.
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

/// The header's bits: one byte before the payload.
pub(super) const MORE_FDS: u8 = 1;
pub(super) const IN_MEMFD: u8 = 2;

/// One datagram on its way out.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<Arc<OwnedFd>>,
    /// The message that this datagram begins. It may be refused without breaking the stream; one that goes on may not.
    pub(crate) begins: Option<u64>,
}

impl Datagram {
    pub(crate) fn send(&self, to: impl AsFd, wait: bool) -> io::Result<()> {
        let fds: Vec<_> = self.fds.iter().map(|fd| fd.as_fd()).collect();
        socket::send(to, &self.bytes, &fds, wait)
    }
}

/// Encodes a message into the datagrams that carry it, to be sent in order and with nothing between them.
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

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Trusted: its payloads may come in a memfd.
    Host,
    /// Not trusted: every payload is in its datagram.
    Init,
}

/// Puts datagrams together again.
///
/// Keeps what has arrived of an unfinished message, so a caller may stop at any datagram and go on later.
#[derive(Debug)]
pub(crate) struct Decoder {
    peer: Peer,
    buffer: Box<[u8]>,
    payload: Option<(u8, Vec<u8>)>,
    fds: Vec<OwnedFd>,
}

impl Decoder {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, buffer: vec![0; MAX_INLINE + 1].into(), payload: None, fds: Vec::new() }
    }

    /// Receives until a message is whole. `None` once the other end has closed. Without `wait`, `WouldBlock` where
    /// nothing is there yet.
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
                // Or a peer could keep the reader here for ever.
                if self.fds.len() == owned {
                    return Err(Broken::Empty);
                }
                if self.payload.is_none() {
                    self.payload = Some((header, payload.to_owned()));
                }
                continue;
            }
            let mut fds = std::mem::take(&mut self.fds);
            let kept = self.payload.take();
            let (header, payload) = kept.as_ref().map_or((header, payload), |(header, bytes)| (*header, bytes));
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
