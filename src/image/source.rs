//! What an image is read from: a layout's directory, or an archive of one.
//!
//! Invariant: nothing is extracted. A file of an archive is read at its place in the archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::caps::UnpackCaps;
use super::entry_path;
use super::meter::{Cancel, Meter, Metered, Used};

/// The most files of an archive, and links in a row.
const MAX_FILES: usize = 100_000;
const MAX_LINKS: usize = 8;

/// Files by their names below a root.
pub(super) struct Source {
    path: PathBuf,
    files: Files,
}

enum Files {
    Directory,
    Archive { archive: Rc<File>, index: HashMap<Vec<u8>, Place> },
}

/// Where an archive has a file.
enum Place {
    At { start: u64, size: u64 },
    Link(Vec<u8>),
}

impl Source {
    /// Opens a directory or an archive.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let is_directory = std::fs::metadata(path).fail_at(ErrorKind::Image, Step::ReadImage, path)?.is_dir();
        let files = match is_directory {
            true => Files::Directory,
            false => {
                let archive = open_file(path).fail_at(ErrorKind::Image, Step::ReadImage, path)?;
                let index = index(&archive).map_err(|error| error.at(path))?;
                Files::Archive { archive: Rc::new(archive), index }
            }
        };
        Ok(Self { path: path.to_owned(), files })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file. `None` if there is none.
    pub(super) fn file(&self, name: &str) -> Result<Option<SourceFile>> {
        let place = match &self.files {
            Files::Directory => {
                let path = self.path.join(entry_path_of(name.as_bytes())?);
                match open_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    file => {
                        let file = file.fail_at(ErrorKind::Image, Step::ReadImage, &path)?;
                        let size = file.metadata().fail_at(ErrorKind::Image, Step::ReadImage, &path)?.len();
                        return Ok(Some(SourceFile { file: Rc::new(file), at: 0, size, left: size }));
                    }
                }
            }
            Files::Archive { archive, index } => find(index, name.as_bytes())?.map(|place| (archive, place)),
        };
        Ok(place.map(|(archive, (at, size))| SourceFile { file: Rc::clone(archive), at, size, left: size }))
    }

    /// Reads a small file. `None` if there is none.
    pub(super) fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.file(name)? else { return Ok(None) };
        if file.size > most {
            return Err(self.error(format!("{name} has more than {most} bytes")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).fail_at(ErrorKind::Image, Step::ReadImage, &self.path)?;
        Ok(Some(bytes))
    }

    /// The error of an image that makes no sense.
    pub(super) fn error(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::Image, Step::ReadImage).at(&self.path).detail(why)
    }
}

/// A file of a source, which is read from its start.
pub(super) struct SourceFile {
    file: Rc<File>,
    at: u64,
    size: u64,
    left: u64,
}

impl SourceFile {
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Read for SourceFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let count = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Opens a regular file, and does not wait for the writer of a FIFO.
fn open_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Where an archive has its files.
fn index(archive: &File) -> Result<HashMap<Vec<u8>, Place>> {
    refuse_compressed(archive)?;
    let meter = Meter::new(UnpackCaps::new().bytes(u64::MAX), Used::default(), Cancel::default());
    let failed = |error| match meter.error(error) {
        error if error.raw_os_error().is_some() => error,
        error => Error::new(ErrorKind::Image, Step::ReadImage).detail(format!("no image archive: {error}")),
    };
    let mut archive = tar::Archive::new(Metered::new(archive, Rc::clone(&meter)));
    let mut index = HashMap::new();
    let mut entries = archive.entries_with_seek().map_err(failed)?;
    loop {
        meter.expect_headers();
        let Some(entry) = entries.next() else { return Ok(index) };
        let entry = entry.map_err(failed)?;
        let path = entry_path::checked(&entry.path_bytes(), UnpackCaps::new())?;
        let kind = entry.header().entry_type();
        if kind.is_file() {
            index.insert(path, Place::At { start: entry.raw_file_position(), size: entry.size() });
        } else if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name_bytes()) {
            let base = if kind.is_symlink() { super::tree::split(&path).0 } else { b"" };
            let target = joined(base, &target);
            index.insert(path, Place::Link(target));
        }
        if index.len() > MAX_FILES {
            return Err(super::meter::exceeds("files in an image archive", MAX_FILES as u64));
        }
    }
}

/// A compressed archive would have to be decompressed for each build.
fn refuse_compressed(archive: &File) -> Result<()> {
    let mut start = [0; 4];
    let count = archive.read_at(&mut start, 0).fail(ErrorKind::Image, Step::ReadImage)?;
    match super::decompress::is_compressed(&start[..count]) {
        true => Err(Error::new(ErrorKind::Image, Step::ReadImage)
            .detail("the archive is compressed as a whole: decompress it first (its layers may be compressed)")),
        false => Ok(()),
    }
}

/// Follows the links of an archive by their names.
fn find(index: &HashMap<Vec<u8>, Place>, name: &[u8]) -> Result<Option<(u64, u64)>> {
    let mut name = entry_path::checked(name, UnpackCaps::new())?;
    for _ in 0..MAX_LINKS {
        match index.get(&name) {
            None => return Ok(None),
            Some(&Place::At { start, size }) => return Ok(Some((start, size))),
            Some(Place::Link(target)) => name.clone_from(target),
        }
    }
    Ok(None)
}

/// A link's target from the archive's root. `..` at the root stays there.
fn joined(base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = base.split(|&byte| byte == b'/').collect();
    for name in target.split(|&byte| byte == b'/') {
        match name {
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.retain(|name| !matches!(*name, b"" | b"."));
    names.join(&b'/')
}

/// A name as a relative path that stays below its directory.
fn entry_path_of(name: &[u8]) -> Result<PathBuf> {
    let path = entry_path::checked(name, UnpackCaps::new())?;
    Ok(Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned())
}
