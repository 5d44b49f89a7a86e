//! What the host and the init say to each other.
//!
//! A message is MessagePack: an id and a [`Request`] or a [`Reply`]. It travels in one `SOCK_SEQPACKET` datagram with its
//! file descriptors; what does not fit there travels in a sealed memfd (the payload, host to init only) or in further
//! datagrams (the fds).
//!
//! Invariant: every size and count is checked here, at both ends, before anything is allocated for it; and a fd that has
//! arrived is owned before anything else can fail.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::{Failure, bytes_path};
use crate::fingerprint::Fingerprint;
use crate::limits::{Form, Rlimit, Times};
use crate::mount::Mount;
use crate::report::{Measured, Reason};
use crate::seccomp::Filter;
use crate::sys::memory;
use crate::sys::socket::{self, MAX_FDS_PER_DATAGRAM};

/// The protocol's version. Host and init are usually the same build; a separate init executable may not be.
pub(crate) const VERSION: u32 = 3;

/// The argument that makes a process an init.
pub(crate) const INIT_ARGUMENT: &str = "cellblock:init";

/// The largest payload that travels in the datagram itself. Linux takes 208 KiB by default (`net.core.wmem_default`).
pub(crate) const MAX_INLINE: usize = 128 << 10;
/// The largest payload of all: the kernel takes 6 MiB of arguments and environment at most (execve(2)).
const MAX_PAYLOAD: usize = 16 << 20;
/// The most fds that one message carries.
pub(crate) const MAX_FDS: usize = 4096;
/// No message nests deeper than this; a decoder's stack is bounded by it.
const MAX_DEPTH: usize = 16;

/// What the host asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The id maps are written: take ids, make pid 1, in a cgroup namespace of its own where its group is not to be left by its
    /// children. The first request, and stage one's only one.
    Start {
        cgroup_namespace: bool,
    },
    Configure(Configure),
    Ping,
    Open(Vec<OpenFile>),
    Symlink(Vec<Symlink>),
    Delete(#[serde(with = "bytes_path")] PathBuf),
    /// Everything that runs may have changed as good as new, or else a failure.
    Reset,
    Fingerprint,
    /// From now on these are the files of the runs' group, in the place of others. Has no reply of its own.
    Join(Group),
    Execve(Execve),
    /// Ends the run with this id, for this reason. Has no reply of its own; the run's is its answer. Ignored where that run
    /// is over.
    Kill(u64, Reason),
}

/// What the init answers. A reply carries its request's id; what the init says unasked carries 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Stage one speaks this version, has a user namespace, and waits for its id maps.
    Hello(u32),
    /// Pid 1 is there; its pidfd is attached.
    Started,
    /// Done: configure, ping, delete, reset.
    Done,
    /// One result for each file asked for; an fd is attached for each that is `None`.
    Opened(Vec<Option<Failure>>),
    /// One result for each link asked for.
    Linked(Vec<Option<Failure>>),
    Fingerprint(Fingerprint),
    /// A reset has been carried out, and these things differ from what they were at first.
    Differs(Vec<String>),
    /// A run whose gate is shut has its process; a pidfd of that is attached. The run's own reply is still to come.
    Forked,
    /// The run has ended and nothing of it is alive.
    Ended(Measured),
    Failed(Failure),
}

/// Where an init stands, and so what it may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Stage one, after its hello.
    Unshared,
    /// Pid 1, without a root file system.
    Born,
    Idle,
    Running,
}

impl State {
    pub(crate) fn admits(self, request: &Request) -> bool {
        match request {
            Request::Start { .. } => self == Self::Unshared,
            Request::Configure(_) => self == Self::Born,
            Request::Execve(_) | Request::Reset | Request::Fingerprint | Request::Join(_) => self == Self::Idle,
            Request::Ping | Request::Open(_) | Request::Symlink(_) | Request::Delete(_) | Request::Kill(..) => {
                matches!(self, Self::Idle | Self::Running)
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Configure {
    pub(crate) mounts: Vec<Attach>,
    pub(crate) symlinks: Vec<Symlink>,
    #[serde(with = "bytes_path::list")]
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) program: Ids,
    pub(crate) host_name: String,
    pub(crate) domain_name: String,
    #[serde(with = "bytes_path")]
    pub(crate) work_dir: PathBuf,
    pub(crate) filter: Filter,
    /// Whether the runs' group is one of cgroup v2, into which they are cloned.
    pub(crate) clones_into_group: bool,
}

/// A mount, and how many of the mount trees it is made of are attached (otherwise the init makes them).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) mount: Mount,
    pub(crate) trees: usize,
}

/// The user and group id of a program, as seen inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A symbolic link at `path` that says `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Symlink {
    #[serde(with = "bytes_path")]
    pub(crate) target: PathBuf,
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
}

/// A regular file to open inside a container: [`Container::open`](crate::Container::open).
///
/// The path starts at the working directory, or at the container's root where it is absolute. No component may be a
/// symbolic link. Files and directories that are made belong to the program's ids, and have just the mode asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    #[serde(with = "bytes_path")]
    pub(crate) path: PathBuf,
    pub(crate) flags: i32,
    pub(crate) mode: u32,
    pub(crate) parents: bool,
}

impl OpenFile {
    /// An existing file, to be read.
    pub fn read(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), flags: libc::O_RDONLY, mode: 0, parents: false }
    }

    /// A file to be written from its start: made with `mode` where it is missing, emptied where it is not.
    pub fn write(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self { path: path.into(), flags: libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, mode, parents: false }
    }

    /// A file to be written at its end: made with `mode` where it is missing.
    pub fn append(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self { path: path.into(), flags: libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, mode, parents: false }
    }

    /// The flags of open(2) instead of those set before: an access mode, and of `O_CREAT`, `O_EXCL`, `O_TRUNC` and
    /// `O_APPEND` what is wanted. Any other is an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn flags(self, flags: i32) -> Self {
        Self { flags, ..self }
    }

    /// Makes missing parent directories, with mode 0755.
    pub fn create_parents(self) -> Self {
        Self { parents: true, ..self }
    }

    pub(crate) fn flags_are_known(&self) -> bool {
        let known = libc::O_ACCMODE | libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_APPEND;
        self.flags & !known == 0 && self.flags & libc::O_ACCMODE != libc::O_ACCMODE
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Execve {
    pub(crate) program: Program,
    pub(crate) args: Strings,
    pub(crate) env: Strings,
    #[serde(with = "bytes_path::option")]
    pub(crate) work_dir: Option<PathBuf>,
    /// Where each attached fd goes in the program. 0, 1 and 2 are /dev/null where they are not named.
    pub(crate) fds: Vec<i32>,
    /// The program's fd that is its controlling terminal.
    pub(crate) terminal: Option<i32>,
    /// Whether the last attached fd is a gate: the child does nothing before it has read a byte there, and gives up where it
    /// reads the end.
    pub(crate) gate: bool,
    pub(crate) rlimits: Vec<Rlimit>,
    /// The CPUs that the program starts on; all that the init has where there are none.
    pub(crate) affinity: Vec<u32>,
    pub(crate) times: Times,
    /// Whether the group's CPU time is withheld at times, so that the child may take long to get to its program.
    pub(crate) throttled: bool,
    /// A filter upon the container's own; none where it is empty.
    pub(crate) filter: Vec<(u16, u8, u8, u32)>,
}

/// The control group of the runs. A descriptor is attached for each file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) form: Form,
    pub(crate) files: Vec<GroupFile>,
}

/// A file of a group, and what the init does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupFile {
    /// A 0 is written here by whoever enters.
    Tasks,
    /// The directory, to be cloned into.
    Directory,
    /// A figure is read here.
    Counter(Counter),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) figure: Figure,
    /// What the figure's line begins with; empty where the file is the figure.
    pub(crate) key: String,
    /// In nanoseconds, for a time.
    pub(crate) unit: u32,
}

/// What a group counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Figure {
    CpuTime,
    MemoryNow,
    /// The most that has been charged since the group was made.
    MemoryPeak,
    /// The most that has been charged since a 0 was last written here.
    MemoryPeakSinceReset,
    OomKills,
    /// The most there have been since the group was made.
    ProcessesPeak,
    RefusedForks,
    Throttled,
}

/// What is executed, by a name that messages have too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Program {
    /// At this path or, where the name has no slash, found in the run's PATH.
    Named(#[serde(with = "bytes_path")] PathBuf),
    /// The attached fd after those that the program gets.
    Attached(#[serde(with = "bytes_path")] PathBuf),
}

/// Strings as execve(2) takes them, each ended by a NUL: one copy, whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strings(ByteBuf);

impl Strings {
    /// Appends one string; its parts must hold no NUL.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self.0.push(0);
    }

    /// Appends those of `defaults`, as `KEY=VALUE`, whose key is not here.
    pub(crate) fn add_missing(&mut self, defaults: &Self) {
        let key = |string: &[u8]| string.iter().position(|&byte| byte == b'=').unwrap_or(string.len());
        for variable in defaults.iter() {
            let is_set = self.iter().any(|it| it[..key(it)] == variable[..key(variable)]);
            if !is_set {
                self.0.extend_from_slice(variable);
            }
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }

    /// Each string with its NUL. An unended last one is left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|&byte| byte == 0).filter(|string| string.ends_with(&[0]))
    }
}

/// A message that has arrived, decoded, with the fds that came along.
#[derive(Debug)]
pub(crate) struct Message<T> {
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
const MORE_FDS: u8 = 1;
const IN_MEMFD: u8 = 2;

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
    ) -> Result<Option<Message<T>>, Broken> {
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
            return Ok(Some(Message { id, body, fds }));
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

#[cfg(any(fuzzing, test))]
#[cfg_attr(test, allow(unreachable_pub))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
