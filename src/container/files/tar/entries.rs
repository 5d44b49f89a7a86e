//! The entries of a tar stream, as a reader sees them.
//!
//! Invariant: the stream is hostile. Nothing is allocated for a size that it claims beyond
//! [`MAX_EXTENSION`], and a path or a type that a tree cannot have is an error.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use tar::{EntryType, Header, PaxExtensions};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};

use crate::container::files::budget::Budget;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

/// The largest extended header: a long name, or PAX records.
const MAX_EXTENSION: u64 = 64 << 10;

pub(super) const BLOCK: usize = 512;

pub(super) struct Entry {
    /// Below the tree, of plain names. Empty for the tree itself.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) kind: EntryKind,
}

pub(super) enum EntryKind {
    Directory,
    Link(PathBuf),
    /// Its content comes next in the stream.
    File(u64),
}

pub(super) struct Entries<R> {
    reader: BufReader<R>,
}

/// What extended headers say of the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    bytes: Option<u64>,
}

impl<R: AsyncRead + Unpin> Entries<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(64 << 10, reader) }
    }

    /// The next entry, or `None` at the end marker. The content of a file must be read before.
    pub(super) async fn next(&mut self, budget: &mut Budget) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let mut header = Header::new_old();
            self.read_exact(header.as_mut_bytes()).await?;
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            check_sum(&header)?;
            budget.look_at(Path::new(""))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(self.extension(&header).await?),
                EntryType::GNULongLink => extensions.target = Some(self.extension(&header).await?),
                EntryType::XHeader => extensions.read_pax(&self.extension(&header).await?)?,
                // Comments, and defaults that no common program writes.
                EntryType::XGlobalHeader => drop(self.extension(&header).await?),
                _ => return extensions.entry(&header, budget).map(Some),
            }
        }
    }

    /// Fills the buffer with content of a file.
    pub(super) async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.reader.read_exact(buffer).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(broken("it ends too early")),
            read => read.map(drop).fail(ErrorKind::Host, Step::ReadTar),
        }
    }

    /// Skips what fills the last block of a content of this size.
    pub(super) async fn skip_padding(&mut self, bytes: u64) -> Result<()> {
        let rest = (bytes % BLOCK as u64) as usize;
        if rest == 0 { Ok(()) } else { self.read_exact(&mut [0; BLOCK][rest..]).await }
    }

    async fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let bytes = header.entry_size().map_err(|_| broken("a size is no number"))?;
        if bytes > MAX_EXTENSION {
            return Err(broken("an extended header has more than 64 KiB"));
        }
        let mut content = vec![0; bytes as usize];
        self.read_exact(&mut content).await?;
        self.skip_padding(bytes).await?;
        Ok(content)
    }
}

impl Extensions {
    fn read_pax(&mut self, records: &[u8]) -> Result<()> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(|_| broken("a PAX record is malformed"))?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.target = Some(record.value_bytes().to_vec()),
                b"size" => {
                    let bytes = record.value().ok().and_then(|value| value.parse().ok());
                    self.bytes = Some(bytes.ok_or_else(|| broken("a size is no number"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(broken("it has a sparse file")),
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(self, header: &Header, budget: &mut Budget) -> Result<Entry> {
        let name = self.path.map_or_else(|| header.path_bytes().into_owned(), up_to_nul);
        let path = plain_path(&name, budget)?;
        // Before POSIX a directory was a file with a slash at the end of its name.
        let is_directory = name.ends_with(b"/");
        let kind = match header.entry_type() {
            EntryType::Directory => EntryKind::Directory,
            EntryType::Regular if is_directory => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                let bytes = self.bytes.map_or_else(|| header.entry_size(), Ok);
                EntryKind::File(bytes.map_err(|_| broken("a size is no number"))?)
            }
            EntryType::Symlink => {
                let target = self.target.map(up_to_nul);
                let target = target.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
                EntryKind::Link(OsString::from_vec(target.unwrap_or_default()).into())
            }
            EntryType::Link => return Err(budget.refused(&path, "a hard link cannot be copied")),
            EntryType::Fifo => return Err(budget.refused(&path, "a FIFO cannot be copied")),
            EntryType::Char | EntryType::Block => return Err(budget.refused(&path, "a device cannot be copied")),
            other => {
                return Err(budget.refused(&path, format!("an entry of type {} cannot be copied", other.as_byte())));
            }
        };
        let mode = header.mode().map_err(|_| broken("a mode is no number"))?;
        Ok(Entry { path, mode, kind })
    }
}

/// A path of plain names. One that leads out of the tree is refused.
fn plain_path(name: &[u8], budget: &Budget) -> Result<PathBuf> {
    let path = PathBuf::from(OsString::from_vec(name.to_vec()));
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(budget.refused(&path, "a path that leads out of the tree"));
            }
        }
    }
    Ok(plain)
}

fn up_to_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

/// The sum over all bytes, of which those of the sum itself count as spaces.
fn check_sum(header: &Header) -> Result<()> {
    const FIELD: std::ops::Range<usize> = 148..156;
    let bytes = header.as_bytes().iter().enumerate();
    let sum: u32 = bytes.map(|(at, byte)| if FIELD.contains(&at) { u32::from(b' ') } else { u32::from(*byte) }).sum();
    match header.cksum() {
        Ok(said) if said == sum => Ok(()),
        _ => Err(broken("a header has a wrong checksum")),
    }
}

fn broken(how: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, Step::ReadTar).detail(how)
}
