//! From a layer's archive to a directory tree.
//!
//! Invariant: whatever an archive says, only files, directories and symbolic links of the store's
//! owner are made, below one directory. The tree has no whiteouts; [`Layer`] lists them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tar::{Archive, Entry, EntryType};

use crate::error::{Error, ErrorKind, Result, Step};

use super::attributes::{Attributes, Directories};
use super::caps::UnpackCaps;
use super::decompress::Decompressed;
use super::digest::{Digest, HashingReader};
use super::entry_path::{self, Name};
use super::meter::{Cancel, Meter, Metered, Used};
use super::tree::{self, Tree, split};

/// What is known of an unpacked layer beside its files. Paths have no first slash.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Paths that this layer removes from those below.
    pub(super) hidden: Vec<ByteBuf>,
    /// Directories of which nothing below this layer is seen.
    pub(super) opaque: Vec<ByteBuf>,
    pub(super) directories: Directories,
}

/// A layer, and the digests of what was read.
pub(super) struct Unpacked {
    pub(super) layer: Layer,
    /// Of the blob as it is stored.
    pub(super) blob: Digest,
    /// Of the archive without its compression.
    pub(super) archive: Digest,
}

/// Unpacks a layer into an empty directory. The digests are for the caller to check.
pub(super) fn unpack(
    blob: impl Read,
    into: OwnedFd,
    caps: UnpackCaps,
    before: Used,
    cancel: Cancel,
) -> Result<Unpacked> {
    let meter = Meter::new(caps, before, cancel);
    let stored = Decompressed::new(HashingReader::new(blob)).map_err(|error| meter.error(error))?;
    let mut archive = Archive::new(Metered::new(HashingReader::new(stored), Rc::clone(&meter)));
    let mut unpacking = Unpacking { tree: Tree::new(into), layer: Layer::default(), caps, meter: Rc::clone(&meter) };
    unpacking.read_entries(&mut archive)?;

    // The digests cover what follows the end of the archive.
    let mut rest = archive.into_inner();
    meter.expect_content();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| meter.error(error))?;
    let (archive, stored) = rest.into_inner().into_parts();
    let blob = stored.into_inner().finish().map_err(|error| meter.error(error))?;
    let Used { bytes, entries } = meter.used();
    Ok(Unpacked { layer: Layer { bytes, entries, ..unpacking.layer }, blob, archive })
}

/// A layer that is being unpacked.
struct Unpacking {
    tree: Tree,
    layer: Layer,
    caps: UnpackCaps,
    meter: Rc<Meter>,
}

impl Unpacking {
    fn read_entries<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        let mut entries = archive.entries().map_err(|error| self.meter.error(error))?;
        loop {
            self.meter.expect_headers();
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(|error| self.meter.error(error))?;
            self.meter.expect_content();
            let path = entry.path_bytes().into_owned();
            self.add(&mut entry, &path)
                // Some archives give a size to entries that have no content.
                .and_then(|()| io::copy(&mut entry, &mut io::sink()).map_err(|error| self.meter.error(error)))
                .map_err(|error| error.at(shown(&path)))?;
        }
    }

    /// Adds an entry to the tree.
    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[u8]) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        self.meter.count_entry()?;
        let is_directory = kind.is_dir() || kind.is_file() && path.ends_with(b"/");
        let path = entry_path::checked(path, self.caps)?;
        match entry_path::name(&path)? {
            Name::Opaque(directory) => {
                self.layer.opaque.push(ByteBuf::from(directory));
                return Ok(());
            }
            Name::Whiteout(hidden) => {
                self.layer.hidden.push(ByteBuf::from(hidden));
                return Ok(());
            }
            Name::Ignored => return Ok(()),
            Name::Plain if path.is_empty() && !is_directory => return Err(refused("it has no name")),
            Name::Plain => {}
        }
        if is_directory {
            return self.add_directory(&path, attributes(entry));
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.add_file(entry, &path),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| refused("a link without a target"))?.into_owned();
                self.add_symlink(&path, &target, attributes(entry))
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| refused("a link without a target"))?.into_owned();
                self.add_hard_link(&path, &target)
            }
            // Left out, but what is below the layer is hidden by it.
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.layer.hidden.push(ByteBuf::from(path));
                Ok(())
            }
            other => Err(refused(format!("it has the unknown type {:?}", char::from(other.as_byte())))),
        }
    }

    fn add_directory(&mut self, path: &[u8], attributes: Attributes) -> Result<()> {
        match self.tree.make_directory(path) {
            Ok(_) => {}
            // A file is in its place, or on the way to it.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.add_at(path, |parent, name| rustix::fs::mkdirat(parent, name, Mode::RWXU))?;
            }
            Err(error) => return Err(failed(error)),
        }
        self.layer.directories.set(path, attributes);
        Ok(())
    }

    fn add_file<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.add_at(path, |parent, name| rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        let mut file = File::from(file);
        let stored = entry.header().entry_size().map_err(|error| self.meter.error(error))?;
        self.meter.count_bytes(entry.size().saturating_sub(stored))?;
        io::copy(entry, &mut file).map_err(|error| self.meter.error(error))?;
        let attributes = attributes(entry);
        rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode & 0o777)).map_err(failed)?;
        rustix::fs::futimens(&file, &attributes.times()).map_err(failed)
    }

    fn add_symlink(&mut self, path: &[u8], target: &[u8], attributes: Attributes) -> Result<()> {
        self.add_at(path, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)?;
            rustix::fs::utimensat(parent, name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Links a file that the layer has. It is found as any other path is: beneath the tree, without
    /// following links.
    fn add_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let target = entry_path::checked(target, self.caps)?;
        if target == path || target.is_empty() {
            return Err(refused("it is a hard link to itself or to a directory"));
        }
        let (from, file) = split(&target);
        let from = self.tree.directory(from).map_err(|error| missing_target(&target, error))?;
        rustix::fs::statat(&from, file, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| missing_target(&target, error))?;
        self.add_at(path, |parent, name| rustix::fs::linkat(&from, file, parent, name, AtFlags::empty()))
    }

    /// Makes a file in its directory, in the place of one that an earlier entry made.
    fn add_at<T>(&mut self, path: &[u8], make: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<T>) -> Result<T> {
        let (parent, name) = split(path);
        let parent = self.tree.make_directory(parent).map_err(failed)?;
        match make(&parent, name) {
            Err(Errno::EXIST) => {
                tree::remove_named(&parent, name).map_err(failed)?;
                self.layer.directories.forget(path);
                make(&parent, name).map_err(failed)
            }
            made => made.map_err(failed),
        }
    }
}

/// The mode without set-id bits, and the time. A header that has none counts as zeros.
fn attributes<R: Read>(entry: &Entry<'_, R>) -> Attributes {
    let header = entry.header();
    let mode = header.mode().unwrap_or(0o755) & 0o1777;
    let modified = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
    Attributes { mode, modified }
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Image, Step::Unpack).detail(why)
}

fn failed(error: Errno) -> Error {
    match error {
        Errno::LOOP => refused("its path leads over a symbolic link"),
        Errno::NOTDIR => refused("its path leads over a file that is no directory"),
        Errno::INVAL | Errno::ILSEQ => refused("its name or target is none that this file system takes"),
        error => Error::io(ErrorKind::Image, Step::Unpack, error),
    }
}

fn missing_target(target: &[u8], error: Errno) -> Error {
    let target = shown(target);
    match error {
        Errno::NOENT => refused(format!("it is a hard link to {}, which the layer does not have", target.display())),
        error => failed(error),
    }
}

/// A path of the archive, for a message.
fn shown(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}
