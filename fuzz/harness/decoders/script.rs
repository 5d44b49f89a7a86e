//! What an input of the decoders means: a script of datagrams, each of five bytes and a part.
//!
//! | byte | |
//! |---|---|
//! | 0 | the part after its first byte travels in a memfd: 1: a sealed one; 2: one that is not |
//! | 1 | how many descriptors are attached, after that memfd |
//! | 2 | from 0xf9 on, how often the part's last byte is repeated, by [`REPEATED`] |
//! | 3, 4 | the part's size, little-endian |

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::container::fuzzing::{Datagram, MAX_INLINE, MAX_PAYLOAD, memory};

/// Sizes around the limits of a datagram, of the kernel and of a payload.
const REPEATED: [usize; 7] = [1 << 10, 100 << 10, MAX_INLINE - 1, MAX_INLINE, 1 << 20, 2 << 20, MAX_PAYLOAD];

/// One datagram of a script.
pub(super) struct Part<'a> {
    memfd: Option<Memfd>,
    fds: usize,
    repeat: usize,
    bytes: &'a [u8],
}

#[derive(Clone, Copy)]
enum Memfd {
    Sealed,
    Unsealed,
}

impl<'a> Part<'a> {
    /// Takes the next datagram off a script.
    pub(super) fn next(script: &mut &'a [u8]) -> Option<Self> {
        let (&[place, fds, repeat, low, high], rest) = script.split_first_chunk()?;
        let size = rest.len().min(u16::from_le_bytes([low, high]).into());
        let (bytes, rest) = rest.split_at(size);
        *script = rest;
        Some(Self {
            memfd: match place {
                1 => Some(Memfd::Sealed),
                2 => Some(Memfd::Unsealed),
                _ => None,
            },
            fds: fds.into(),
            repeat: repeat.checked_sub(0xf9).map_or(0, |number| REPEATED[usize::from(number)]),
            bytes,
        })
    }

    /// Sends the datagram, with copies of `fd`. Returns false if the kernel refuses to carry it.
    pub(super) fn send(&self, to: &OwnedFd, fd: &Arc<OwnedFd>) -> io::Result<bool> {
        if self.memfd.is_none() && self.repeat > 2 * MAX_INLINE {
            return Ok(false);
        }
        match self.datagram(fd)?.send(to, false) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
            Err(error) if [Some(libc::EMSGSIZE), Some(libc::EINVAL)].contains(&error.raw_os_error()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn datagram(&self, fd: &Arc<OwnedFd>) -> io::Result<Datagram> {
        let filler = vec![self.bytes.last().copied().unwrap_or(0); self.repeat];
        let mut fds = vec![Arc::clone(fd); self.fds];
        let bytes = match (self.memfd, self.bytes.split_first()) {
            (Some(kind), Some((&header, payload))) => {
                fds.insert(0, memfd(kind, &[payload, &filler].concat())?.into());
                vec![header]
            }
            _ => [self.bytes, &filler].concat(),
        };
        Ok(Datagram { bytes, fds, begins: None })
    }
}

fn memfd(kind: Memfd, content: &[u8]) -> io::Result<OwnedFd> {
    match kind {
        Memfd::Sealed => memory::sealed("file", content),
        Memfd::Unsealed => {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let mut memfd = File::from(memfd_create("cellblock-frame", flags)?);
            memfd.write_all(content)?;
            Ok(memfd.into())
        }
    }
}
