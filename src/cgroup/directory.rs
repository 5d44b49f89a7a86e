//! Directories of control groups, and the files in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Failure, ResultExt, Step};
use crate::sys::in_background;

use super::charges::{are_many, empty};

const PREFIX: &str = "cellblock-runs-";

/// The directory of a group that this process made. Dropping it removes the group and the groups
/// below, which may block. What has processes is removed in the background, once it has none.
#[derive(Debug)]
pub(super) struct GroupDirectory {
    pub(super) path: PathBuf,
    below: Vec<PathBuf>,
    is_removed: bool,
    /// Shows other hosts that the owner is alive.
    _lock: File,
}

impl GroupDirectory {
    pub(super) fn make(parent: &Path) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match make_locked(&path) {
                // Another host has taken it for abandoned and removed it before it was locked.
                Ok(_) if !path.exists() => {}
                Ok(lock) => return Ok(Self { path, below: Vec::new(), is_removed: false, _lock: lock }),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EWOULDBLOCK)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && parent.exists() => {}
                Err(error) => return Err(Failure::at(Step::MakeGroup, path, error)),
            }
        }
    }

    pub(super) fn write(&self, file: &str, value: impl ToString) -> Result<(), Failure> {
        write_value(&self.path.join(file), value)
    }

    /// Names the groups below that are in use now, each before the groups that are below it. With
    /// their names a removal needs no descriptor.
    pub(super) fn set_below(&mut self, below: impl Into<Vec<PathBuf>>) {
        self.below = below.into();
    }

    /// Removes the group within 100 ms, and otherwise in the background. Its last processes may
    /// still be exiting.
    pub(super) fn remove_soon(&mut self) {
        for _ in 0..100 {
            match self.try_remove() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                removed => {
                    self.is_removed = removed.is_ok();
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes a group of memory, without a wait for what is charged to it.
    pub(super) fn remove_charged(mut self) {
        if are_many(&self.path) {
            self.is_removed = true;
            remove_charged(self.path.clone());
        }
    }

    fn try_remove(&self) -> io::Result<()> {
        // What stays is found by its directory.
        self.below.iter().rev().for_each(|group| drop(fs::remove_dir(group)));
        remove_group(&self.path)
    }
}

impl Drop for GroupDirectory {
    fn drop(&mut self) {
        if !self.is_removed && self.try_remove().is_err() {
            let path = self.path.clone();
            in_background(move || remove_patiently(&path));
        }
    }
}

/// Removes a group of memory and the groups below on another thread. The kernel may take seconds
/// for what is charged to them.
pub(super) fn remove_charged(path: PathBuf) {
    in_background(move || {
        if are_many(&path) {
            empty(&path);
        }
        remove_patiently(&path)
    });
}

/// Removes a group within ten seconds. Its last processes may still be exiting.
fn remove_patiently(path: &Path) -> io::Result<()> {
    for _ in 0..1000 {
        if remove_group(path).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    remove_group(path)
}

/// Makes a directory, and has a lock on it. Leaves none if it cannot be locked.
fn make_locked(path: &Path) -> io::Result<File> {
    fs::create_dir(path)?;
    let locked = File::open(path).and_then(|lock| {
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    });
    if locked.as_ref().is_err_and(|error| error.raw_os_error() != Some(libc::EWOULDBLOCK)) {
        fs::remove_dir(path).ok();
    }
    locked
}

/// Removes a group and the groups below. A group that is already gone is no error.
pub(super) fn remove_group(path: &Path) -> io::Result<()> {
    match remove_empty_group(path) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        removed => return removed,
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    remove_empty_group(path)
}

fn remove_empty_group(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes the groups in this directory that belonged to hosts that have died.
pub(super) fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            // A group that still has processes stays. The next host that looks finds it again.
            remove_if_abandoned(&entry.path()).ok();
        }
    }
}

/// Removes a group that no host has a lock on. The lock keeps a host from taking it meanwhile.
fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let lock = File::open(path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    remove_group(path)
}

/// Writes a value to a file of a group.
pub(super) fn write_value(file: &Path, value: impl ToString) -> Result<(), Failure> {
    // `fs::write` would add O_CREAT and O_TRUNC, which cgroup files do not support.
    let opened = OpenOptions::new().write(true).open(file);
    opened.and_then(|mut opened| opened.write_all(value.to_string().as_bytes())).step_at(Step::LimitGroup, file)
}

pub(super) fn make_group(path: &Path) -> Result<(), Failure> {
    fs::create_dir(path).step_at(Step::MakeGroup, path)
}

/// Opens a group's directory, for a process to be cloned into it.
pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(path)?.into())
}

/// Whether this process may write to a file or make groups in a directory.
pub(super) fn is_writable(path: &Path) -> bool {
    nix::unistd::eaccess(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_hosts_group_is_removed_and_a_live_hosts_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let (left, foreign) = (parent.path().join("cellblock-runs-1-1/box/run"), parent.path().join("cellblock-other"));
        fs::create_dir_all(&left).unwrap();
        fs::create_dir_all(&foreign).unwrap();
        let own = GroupDirectory::make(parent.path()).unwrap();
        remove_abandoned(parent.path());
        assert!(own.path.exists() && foreign.exists());
        // Outside of a cgroup file system rmdir(2) fails with ENOTEMPTY: only the deepest goes.
        drop(own);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
