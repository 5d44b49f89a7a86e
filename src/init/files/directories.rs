//! Directories of a container, made for the host.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use crate::error::{Failure, ResultExt, Step};
use crate::wire::{Ids, MakeDirectory, Reply};

use super::resolve::{DIR, ROOT, Start, beneath, dir_and_name, is_too_long, resolve, without_path};

/// Makes each directory.
pub(crate) fn make_all(directories: &[MakeDirectory], program: Ids) -> Reply {
    Reply::Each(directories.iter().map(|directory| without_path(make_directory(directory, program))).collect())
}

/// Makes a directory and every missing directory above it. A directory that exists keeps its mode.
pub(crate) fn make_directory(MakeDirectory { path, mode }: &MakeDirectory, program: Ids) -> Result<(), Failure> {
    if is_too_long(path) {
        return Err(Failure::at(Step::MakeDirectory, path, Errno::ENAMETOOLONG));
    }
    // Fast path: only the last directory is missing.
    if make_last(path, *mode, program).step_at(Step::MakeDirectory, path)? {
        return Ok(());
    }
    let start = Start::of(path).step_at(Step::MakeDirectory, path)?;
    make_dirs(&start, path.parent().unwrap_or(Path::new("")), program)?;
    make_last(path, *mode, program).step_at(Step::MakeDirectory, path)?;
    make_dirs(&start, path, program).map(drop)
}

/// Makes a directory in an existing one, with exactly this mode. False if that is not possible.
fn make_last(path: &Path, mode: u32, program: Ids) -> nix::Result<bool> {
    let Ok((dir, name)) = dir_and_name(path) else { return Ok(false) };
    if mkdirat(&dir, name, Mode::from_bits_truncate(0o700)).is_err() {
        return Ok(false);
    }
    let new = resolve(&dir, Path::new(name), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
    fchown(&new, Some(Uid::from_raw(program.uid)), Some(Gid::from_raw(program.gid)))?;
    fchmod(&new, Mode::from_bits_truncate(mode))?;
    Ok(true)
}

/// Makes every missing directory of `path` beneath `start`, for `owner`, and opens the last one.
pub(crate) fn make_dirs(start: impl AsFd, path: &Path, owner: Ids) -> Result<OwnedFd, Failure> {
    // Most are there. A path that leads upwards is refused below.
    let leads_up = path.components().any(|component| component == Component::ParentDir);
    match resolve(&start, beneath(path), DIR, 0) {
        Ok(dir) if !leads_up => return Ok(dir),
        Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {}
        Err(error) => return Err(Failure::at(Step::MakeDirectory, path, error)),
    }
    let mut last: Option<OwnedFd> = None;
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::at(Step::MakeDirectory, path, Errno::EINVAL));
            }
        };
        let parent = last.as_ref().map_or(start.as_fd(), AsFd::as_fd);
        let is_new = match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(Failure::at(Step::MakeDirectory, path, error)),
        };
        let dir = resolve(parent, Path::new(name), DIR, 0).step_at(Step::MakeDirectory, path)?;
        if is_new && owner != ROOT {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            fchownat(&dir, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).step_at(Step::SetOwner, path)?;
        }
        last = Some(dir);
    }
    match last {
        Some(dir) => Ok(dir),
        None => resolve(start, Path::new("."), DIR, 0).step_at(Step::MakeDirectory, path),
    }
}
