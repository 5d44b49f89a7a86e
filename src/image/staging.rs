//! Directories in which parts of the store are made, and the locks of the store.
//!
//! Invariant: a part of the store has its place from the moment that it is complete and on disk,
//! and not before. What a killed process left in its staging directory is removed by a later one.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::meter::Cancel;
use super::tree;

/// A new directory below `staging`, with this process's lock. Dropping it removes it with all that
/// it has.
pub(super) struct Staging {
    directory: OwnedFd,
    path: PathBuf,
    /// How many directories were taken out of the store.
    taken: u32,
}

impl Staging {
    pub(super) fn new(parent: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let path = parent.join(format!("{}-{number}-{time}", std::process::id()));
            let made = rustix::fs::mkdir(&path, Mode::RWXU);
            made.fail_at(ErrorKind::Image, Step::WriteStore, &path)?;
            // A process that cleans up may have been faster.
            if let Some(directory) = lock_directory(&path, FlockOperation::NonBlockingLockExclusive)? {
                return Ok(Self { directory, path, taken: 0 });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in this one, and opens it.
    pub(super) fn make_directory(&self, name: &str) -> Result<OwnedFd> {
        let make = || {
            rustix::fs::mkdirat(&self.directory, name, Mode::RWXU)?;
            tree::open_directory(self.directory.as_fd(), name)
        };
        make().fail_at(ErrorKind::Image, Step::WriteStore, self.path.join(name))
    }

    /// Gives the complete directory its place. It is no error if another process was faster.
    pub(super) fn publish(self, place: &Path) -> Result<()> {
        let publish = || {
            rustix::fs::syncfs(&self.directory)?;
            match rustix::fs::rename(&self.path, place) {
                Ok(()) => sync_parent(place),
                Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
                Err(error) => Err(error),
            }
        };
        publish().fail_at(ErrorKind::Image, Step::WriteStore, place)
    }

    /// Gives one complete file its place. It replaces a file that is there.
    pub(super) fn publish_file(self, name: &str, place: &Path) -> Result<()> {
        let publish = || {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
            rustix::fs::fsync(file)?;
            rustix::fs::rename(self.path.join(name), place)?;
            sync_parent(place)
        };
        publish().fail_at(ErrorKind::Image, Step::WriteStore, place)
    }

    /// Takes a directory out of the store. It is removed when the staging directory is.
    pub(super) fn take(&mut self, place: &Path) -> Result<()> {
        self.taken += 1;
        rustix::fs::rename(place, self.path.join(self.taken.to_string())).fail_at(
            ErrorKind::Image,
            Step::WriteStore,
            place,
        )
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After `publish` there is nothing to remove. What cannot be removed is left to the next
        // process that cleans up.
        let _ = remove_at(&self.path);
    }
}

/// Removes the staging directories of processes that are gone.
pub(super) fn remove_abandoned(parent: &Path) -> Result<()> {
    for entry in std::fs::read_dir(parent).fail_at(ErrorKind::Image, Step::OpenStore, parent)? {
        let path = entry.fail_at(ErrorKind::Image, Step::OpenStore, parent)?.path();
        if lock_directory(&path, FlockOperation::NonBlockingLockExclusive)?.is_some() {
            remove_at(&path).fail_at(ErrorKind::Image, Step::WriteStore, &path)?;
        }
    }
    Ok(())
}

/// Locks a directory without waiting. `None` if another process has it locked, or if it is not
/// there any more.
pub(super) fn lock_directory(path: &Path, operation: FlockOperation) -> Result<Option<OwnedFd>> {
    let lock = || {
        let directory = tree::open_directory(rustix::fs::CWD, path)?;
        rustix::fs::flock(&directory, operation)?;
        let (here, there) =
            (rustix::fs::fstat(&directory)?, rustix::fs::statat(rustix::fs::CWD, path, AtFlags::empty())?);
        Ok(((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)).then_some(directory))
    };
    match lock() {
        Err(Errno::NOENT | Errno::WOULDBLOCK) => Ok(None),
        locked => locked.fail_at(ErrorKind::Image, Step::OpenStore, path),
    }
}

/// A lock of the store, on a file of its own.
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for a lock. `None` if it was not free within `time`.
    pub(super) fn wait(
        path: &Path,
        operation: FlockOperation,
        time: Duration,
        cancel: &Cancel,
    ) -> Result<Option<Self>> {
        let end = Instant::now() + time;
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.fail_at(ErrorKind::Image, Step::OpenStore, path)?;
        let mut pause = Duration::from_millis(1);
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(Error::io(ErrorKind::Image, Step::OpenStore, error).at(path)),
            }
            cancel.check()?;
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

fn remove_at(path: &Path) -> rustix::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    tree::remove_named(&tree::open_directory(rustix::fs::CWD, parent)?, name.as_bytes())
}

fn sync_parent(path: &Path) -> rustix::io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    rustix::fs::fsync(tree::open_directory(rustix::fs::CWD, parent)?)
}
