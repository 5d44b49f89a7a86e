//! A tree of a container that is packed into a tar stream.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::entries::BLOCK;
use crate::container::files::batch::SMALL;
use crate::container::files::blocking::{off_the_runtime, steps_off_the_runtime};
use crate::container::files::content::{self, CHUNK};
use crate::container::files::listing::Attributes;
use crate::container::files::tree::Tree;
use crate::container::files::walk::Item;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

/// The room for a name in a header.
const NAME: usize = 100;

impl Tree<'_> {
    /// Packs this tree into a tar stream in the GNU format. The paths start below the tree; the
    /// owner of each is 0. Flushes the stream at the end and does not shut it down.
    ///
    /// The rules are those of [`copy_out`](Self::copy_out), except that times are kept.
    ///
    /// # Errors
    /// [`ErrorKind::File`] with the path in the container: a cap, a special file, or a large file
    /// that shrinks while it is read. [`ErrorKind::Host`] if the stream cannot be written. The
    /// stream then ends without the end marker.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of an archive in the stream, without the end marker.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> std::io::Result<()> {
    /// let archive = tokio::fs::File::create("results.tar").await?;
    /// container.tree("out").matching("**/*.json").pack_tar(archive).await?;
    /// # Ok(()) }
    /// ```
    pub async fn pack_tar(self, mut writer: impl AsyncWrite + Unpin) -> Result<()> {
        let mut walk = self.walk().await?;
        while let Some(items) = walk.next().await? {
            for packed in steps_off_the_runtime(move || items.into_iter().map(pack).collect::<Result<Vec<_>>>()).await?
            {
                write(&mut writer, &packed.bytes).await?;
                if let Some(Large { file, bytes, path }) = packed.large {
                    write_large(&mut writer, file, bytes, self.path.join(path)).await?;
                }
            }
        }
        write(&mut writer, &[0; 2 * BLOCK]).await?;
        writer.flush().await.fail(ErrorKind::Host, Step::WriteTar)
    }
}

/// The headers of an entry, and the content of a small file.
struct Packed {
    bytes: Vec<u8>,
    large: Option<Large>,
}

struct Large {
    file: File,
    bytes: u64,
    path: PathBuf,
}

fn pack(item: Item) -> Result<Packed> {
    Ok(match item {
        Item::Directory { path, attributes } => {
            let name = [path.as_os_str().as_bytes(), b"/"].concat();
            Packed { bytes: headers(EntryType::Directory, &name, b"", 0, attributes), large: None }
        }
        Item::Link { path, target } => {
            let attributes = Attributes { mode: 0o777, modified: 0 };
            let (name, target) = (path.as_os_str().as_bytes(), target.as_os_str().as_bytes());
            Packed { bytes: headers(EntryType::Symlink, name, target, 0, attributes), large: None }
        }
        Item::File { path, file, bytes, attributes } if bytes > SMALL => {
            let header = headers(EntryType::Regular, path.as_os_str().as_bytes(), b"", bytes, attributes);
            Packed { bytes: header, large: Some(Large { file, bytes, path }) }
        }
        Item::File { path, file, bytes, attributes } => {
            let content = content::read(&file, bytes).fail_at(ErrorKind::File, Step::Read, &path)?;
            let name = path.as_os_str().as_bytes();
            let mut packed = headers(EntryType::Regular, name, b"", content.len() as u64, attributes);
            append_padded(&mut packed, &content);
            Packed { bytes: packed, large: None }
        }
    })
}

/// The header of an entry, after those of its long names.
fn headers(kind: EntryType, name: &[u8], target: &[u8], bytes: u64, attributes: Attributes) -> Vec<u8> {
    let mut packed = Vec::new();
    for (long, text) in [(EntryType::GNULongLink, target), (EntryType::GNULongName, name)] {
        if text.len() > NAME {
            let text = [text, b"\0"].concat();
            let none = Attributes { mode: 0o644, modified: 0 };
            packed.extend(header(long, b"././@LongLink", b"", text.len() as u64, none).as_bytes());
            append_padded(&mut packed, &text);
        }
    }
    packed.extend(header(kind, name, target, bytes, attributes).as_bytes());
    packed
}

fn header(kind: EntryType, name: &[u8], target: &[u8], bytes: u64, attributes: Attributes) -> Header {
    let mut header = Header::new_gnu();
    let fields = header.as_old_mut();
    for (field, text) in [(&mut fields.name, name), (&mut fields.linkname, target)] {
        let size = text.len().min(NAME);
        field[..size].copy_from_slice(&text[..size]);
    }
    header.set_entry_type(kind);
    header.set_mode(attributes.mode & 0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(attributes.modified.try_into().unwrap_or(0));
    header.set_size(bytes);
    header.set_cksum();
    header
}

fn append_padded(packed: &mut Vec<u8>, content: &[u8]) {
    packed.extend(content);
    packed.resize(packed.len().next_multiple_of(BLOCK), 0);
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    writer.write_all(bytes).await.fail(ErrorKind::Host, Step::WriteTar)
}

/// Writes the content of a large file, a chunk at a time. The header has its size already.
async fn write_large(
    writer: &mut (impl AsyncWrite + Unpin),
    mut file: File,
    bytes: u64,
    path: impl AsRef<Path>,
) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let size = left.min(CHUNK as u64);
        let read = off_the_runtime(move || content::read(&file, size).map(|chunk| (file, chunk))).await;
        let chunk;
        (file, chunk) = read.fail_at(ErrorKind::File, Step::Read, &path)?;
        if chunk.is_empty() {
            let shrank = Error::new(ErrorKind::File, Step::Read).errno(libc::EIO).at(path.as_ref());
            return Err(shrank.detail("the file shrank while it was read"));
        }
        left -= chunk.len() as u64;
        write(writer, &chunk).await?;
    }
    let rest = (bytes % BLOCK as u64) as usize;
    if rest == 0 { Ok(()) } else { write(writer, &[0; BLOCK][rest..]).await }
}
