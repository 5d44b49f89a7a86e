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
    let mut guess = Guess::Exists;
    let results = files.iter().map(|file| match open_by_guess(file, program, guess) {
        Ok((fd, is)) => {
            fds.push(fd.into());
            guess = is;
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
    Ok(open_by_guess(file, program, Guess::Exists)?.0)
}

/// Whether a file that may be created is there. A wrong guess costs a system call, which takes as
/// long as half a creation. The files of a request are mostly alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guess {
    Exists,
    IsNew,
}

/// Returns which guess would have been right as well.
fn open_by_guess(file: &OpenRequest, program: Ids, guess: Guess) -> Result<(OwnedFd, Guess), Failure> {
    if is_too_long(&file.path) {
        return Err(Failure::new(Step::Open, Errno::ENAMETOOLONG));
    }
    let start = Start::of(&file.path).step(Step::Open)?;
    let (path, flags) = (beneath(&file.path), OFlag::from_bits_retain(file.flags));
    let opened = match (open_or_create(&start, path, flags, file.mode, guess), file.path.parent()) {
        (Err(_), Some(parent)) if file.parents => {
            make_dirs(&start, parent, program)?;
            open_or_create(&start, path, flags, file.mode, Guess::IsNew)
        }
        (opened, _) => opened,
    };
    let (fd, is) = opened.step(Step::Open)?;
    if is == Guess::IsNew {
        let (uid, gid) = (Uid::from_raw(program.uid), Gid::from_raw(program.gid));
        fchown(&fd, Some(uid), Some(gid)).step(Step::SetOwner)?;
        // The umask does not apply, and a new owner takes the set-id bits away.
        if file.mode & !NEVER_MASKED != 0 {
            fchmod(&fd, Mode::from_bits_truncate(file.mode)).step(Step::SetOwner)?;
        }
        return Ok((fd, is));
    }
    let kind = fstat(&fd).step(Step::Open)?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        let error = if kind == SFlag::S_IFDIR.bits() { Errno::EISDIR } else { Errno::EINVAL };
        return Err(Failure::new(Step::CheckRegularFile, error));
    }
    Ok((fd, is))
}

/// The bits of a mode that neither the init's umask, which is 022, nor a change of the owner takes
/// away.
const NEVER_MASKED: u32 = 0o755;

/// Opens a file, and creates it if the flags say so. Returns whether the file is new: only a new
/// file gets another owner.
fn open_or_create(start: &Start, path: &Path, flags: OFlag, mode: u32, guess: Guess) -> nix::Result<(OwnedFd, Guess)> {
    let existing = flags - OFlag::O_CREAT - OFlag::O_EXCL;
    let open = || Ok((resolve(start, path, existing, 0)?, Guess::Exists));
    let create = || {
        let flags = existing | OFlag::O_CREAT | OFlag::O_EXCL;
        Ok((resolve(start, path, flags, mode & 0o7777)?, Guess::IsNew))
    };
    if !flags.contains(OFlag::O_CREAT) {
        return open();
    }
    if flags.contains(OFlag::O_EXCL) {
        return create();
    }
    let mut guess = guess;
    // A program may create and remove the name between two attempts, but not forever.
    for _ in 0..200 {
        let opened = if guess == Guess::IsNew { create() } else { open() };
        guess = match (guess, opened) {
            (Guess::IsNew, Err(Errno::EEXIST)) => Guess::Exists,
            (Guess::Exists, Err(Errno::ENOENT)) => Guess::IsNew,
            (_, opened) => return opened,
        };
    }
    Err(Errno::EAGAIN)
}
