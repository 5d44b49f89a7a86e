//! Where the store keeps its parts.
//!
//! ```text
//! index.json            the images and their names
//! layers/DIFF_ID/files  an unpacked layer, without whiteouts
//! layers/DIFF_ID/layer  its size, its whiteouts and the attributes of its directories
//! trees/CHAIN_ID/root   the layers of an image as one tree
//! trees/CHAIN_ID/bytes  the size of those layers
//! staging/…             what is being made or removed
//! locks/…, *.lock       locks (flock(2))
//! ```
//!
//! Invariant: a tree is removed only under an exclusive lock of its directory. A process that uses
//! the tree has a shared one.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::digest::Digest;
use super::meter::Cancel;
use super::staging::{FileLock, lock_directory};

/// Longer than another process holds a lock that it releases by itself.
const LOCK_TIME: Duration = Duration::from_secs(60);

/// The directory of a store.
#[derive(Clone, Debug)]
pub(super) struct StoreDirectory(PathBuf);

/// The tree of an image, which stays as long as the lock is open.
#[derive(Clone, Debug)]
pub(super) struct LockedTree {
    /// The root directory of the tree.
    pub(super) root: PathBuf,
    pub(super) lock: Arc<OwnedFd>,
}

impl StoreDirectory {
    /// Makes the directories of the store where they are missing. Refuses a store that others could
    /// write to.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).fail_at(ErrorKind::Image, Step::OpenStore, path)?;
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true).mode(0o700);
        for directory in ["layers", "trees", "staging", "locks"] {
            let directory = path.join(directory);
            make.create(&directory).fail_at(ErrorKind::Image, Step::OpenStore, &directory)?;
        }
        let metadata = std::fs::metadata(&path).fail_at(ErrorKind::Image, Step::OpenStore, &path)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let why = "it must belong to this process's user, and no other may write to it";
            return Err(Error::new(ErrorKind::Image, Step::OpenStore).at(path).detail(why));
        }
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.0.join("layers")
    }

    pub(super) fn layer(&self, diff_id: Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(super) fn trees(&self) -> PathBuf {
        self.0.join("trees")
    }

    pub(super) fn tree(&self, chain: Digest) -> PathBuf {
        self.trees().join(chain.hex())
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.0.join("staging")
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }

    /// Locks the tree of an image, so that it stays. `None` if there is no such tree.
    pub(super) fn lock_tree(&self, chain: Digest) -> Result<Option<LockedTree>> {
        let path = self.tree(chain);
        let end = Instant::now() + LOCK_TIME;
        loop {
            if let Some(lock) = lock_directory(&path, FlockOperation::NonBlockingLockShared)? {
                return Ok(Some(LockedTree { root: path.join("root"), lock: Arc::new(lock) }));
            }
            if !path.exists() {
                return Ok(None);
            }
            // A process that removes the tree has it locked for a moment.
            if Instant::now() >= end {
                return Err(self.is_locked());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Keeps other processes from removing unused parts.
    pub(super) fn lock_parts(&self, cancel: &Cancel) -> Result<FileLock> {
        self.lock("parts.lock", FlockOperation::NonBlockingLockShared, cancel)
    }

    /// Waits until no other process adds parts, and keeps them from adding any.
    pub(super) fn lock_parts_exclusively(&self, cancel: &Cancel) -> Result<FileLock> {
        self.lock("parts.lock", FlockOperation::NonBlockingLockExclusive, cancel)
    }

    fn lock(&self, name: &str, operation: FlockOperation, cancel: &Cancel) -> Result<FileLock> {
        FileLock::wait(&self.0.join(name), operation, LOCK_TIME, cancel)?.ok_or_else(|| self.is_locked())
    }

    fn is_locked(&self) -> Error {
        let seconds = LOCK_TIME.as_secs();
        let why = format!("another process has had it locked for {seconds} s");
        Error::new(ErrorKind::Image, Step::OpenStore).at(&self.0).detail(why).errno(libc::EAGAIN)
    }
}
