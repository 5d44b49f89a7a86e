//! Regular files, opened for the host.
//!
//! Invariant: what is opened is a regular file. Its content does not pass through the init.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use crate::error::{Failure, ResultExt, Step};
use crate::wire::{Ids, OpenRequest, Reply};

use super::directories::make_dirs;
use super::resolve::{ROOT, Start, beneath, is_too_long, resolve};

/// Opens each file. Returns one result for each file, and the descriptors of the opened files.
pub(crate) fn open_all(files: &[OpenRequest], program: Ids) -> (Reply, Vec<Arc<OwnedFd>>) {
    let mut fds = Vec::new();
    let results = files.iter().map(|file| match open(file, program) {
        Ok(fd) => {
            fds.push(fd.into());
            None
        }
        // The host knows the paths, and 4096 of them would not fit into one message.
        Err(failure) => Some(Failure { path: None, ..failure }),
    });
    (Reply::Opened(results.collect()), fds)
}

/// The content of a regular file, of at most 64 KiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    const LIMIT: u64 = 64 << 10;
    // The owner does not matter: nothing is created.
    let fd = open(&OpenRequest::read(path), ROOT).map_err(|failure| io::Error::from_raw_os_error(failure.errno))?;
    let mut content = Vec::new();
    File::from(fd).take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT { Err(Errno::EFBIG.into()) } else { Ok(content) }
}

/// Opens a regular file. One that is created belongs to `program`.
pub(crate) fn open(file: &OpenRequest, program: Ids) -> Result<OwnedFd, Failure> {
    if is_too_long(&file.path) {
        return Err(Failure::new(Step::Open, Errno::ENAMETOOLONG));
    }
    let start = Start::of(&file.path).step(Step::Open)?;
    let (path, flags) = (beneath(&file.path), OFlag::from_bits_retain(file.flags));
    let opened = match (open_or_create(&start, path, flags, file.mode), file.path.parent()) {
        (Err(_), Some(parent)) if file.parents => {
            make_dirs(&start, parent, program)?;
            open_or_create(&start, path, flags, file.mode)
        }
        (opened, _) => opened,
    };
    let (fd, is_new) = opened.step(Step::Open)?;
    let kind = fstat(&fd).step(Step::Open)?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        let error = if kind == SFlag::S_IFDIR.bits() { Errno::EISDIR } else { Errno::EINVAL };
        return Err(Failure::new(Step::CheckRegularFile, error));
    }
    if is_new {
        let (uid, gid) = (Uid::from_raw(program.uid), Gid::from_raw(program.gid));
        fchown(&fd, Some(uid), Some(gid)).step(Step::SetOwner)?;
        // The umask does not apply.
        fchmod(&fd, Mode::from_bits_truncate(file.mode)).step(Step::SetOwner)?;
    }
    Ok(fd)
}

/// Opens a file, and creates it if the flags say so. Returns whether the file is new: only a new
/// file gets another owner.
fn open_or_create(start: &Start, path: &Path, flags: OFlag, mode: u32) -> nix::Result<(OwnedFd, bool)> {
    let create = flags.contains(OFlag::O_CREAT);
    let existing = flags - OFlag::O_CREAT - OFlag::O_EXCL;
    // A program may create and remove the name between the two attempts, but not forever.
    for _ in 0..100 {
        if !flags.contains(OFlag::O_EXCL) {
            match resolve(start, path, existing, 0) {
                Err(Errno::ENOENT) if create => {}
                other => return Ok((other?, false)),
            }
        }
        match resolve(start, path, existing | OFlag::O_CREAT | OFlag::O_EXCL, mode & 0o7777) {
            Err(Errno::EEXIST) if !flags.contains(OFlag::O_EXCL) => {}
            other => return Ok((other?, true)),
        }
    }
    Err(Errno::EAGAIN)
}
