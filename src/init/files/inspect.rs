//! What there is at a path of a container, described for the host.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::fstat;

use crate::error::{Failure, ResultExt, Step};
use crate::wire::{Ids, RawMetadata};

use super::resolve::{Start, beneath, open_path, resolve};

/// What the kernel knows of a file, a directory or a link itself.
pub(crate) fn metadata(path: &Path) -> Result<RawMetadata, Failure> {
    let stat = open_path(path).and_then(|file| fstat(&file)).step_at(Step::ReadMetadata, path)?;
    Ok(RawMetadata {
        mode: stat.st_mode,
        bytes: stat.st_size as u64,
        modified_seconds: stat.st_mtime,
        modified_nanos: stat.st_mtime_nsec as u32,
        owner: Ids { uid: stat.st_uid, gid: stat.st_gid },
    })
}

/// The target of a link.
pub(crate) fn read_link(path: &Path) -> Result<PathBuf, Failure> {
    let link = open_path(path).step_at(Step::ReadLink, path)?;
    match readlinkat(&link, "") {
        // What the kernel says for an open file that is no link.
        Err(Errno::ENOENT) => Err(Failure::at(Step::ReadLink, path, Errno::EINVAL)),
        target => target.map(PathBuf::from).step_at(Step::ReadLink, path),
    }
}

/// Opens a directory. Its descriptor lists names. It opens none of them for the host, whose ids
/// may have no rights here.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    let start = Start::of(path).step_at(Step::ReadDirectory, path)?;
    resolve(start, beneath(path), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0).step_at(Step::ReadDirectory, path)
}
