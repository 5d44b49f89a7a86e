//! What leaves the store.
//!
//! Invariant: a tree that a process uses stays. Parts are moved away under a lock of the store, and
//! removed after it is released.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::digest::Digest;
use super::directory::StoreDirectory;
use super::index::Index;
use super::meter::Cancel;
use super::staging::{Staging, lock_directory, remove_abandoned};

/// Takes a name off an image. The image leaves the list with its last name, or if it is named by
/// its digest. Returns its digest.
pub(super) fn unlist(store: &StoreDirectory, image: &str, cancel: &Cancel) -> Result<Digest> {
    Index::update(store.path(), cancel, |index| {
        let Some(id) = index.find(image) else {
            return Err(Error::new(ErrorKind::Image, Step::FindImage).at(image).detail("the store has no such image"));
        };
        if let Some(record) = index.images.get_mut(&id) {
            let names = record.names.len();
            record.names.retain(|name| name != image);
            if record.names.is_empty() || record.names.len() == names {
                index.images.remove(&id);
            }
        }
        Ok(id)
    })
}

/// Takes images without a name off the list. One in use stays until it is not.
pub(super) fn unlist_unnamed(store: &StoreDirectory, cancel: &Cancel) -> Result<()> {
    if Index::read(store.path())?.images.values().all(|record| !record.names.is_empty()) {
        return Ok(());
    }
    Index::update(store.path(), cancel, |index| {
        index.images.retain(|_, record| !record.names.is_empty());
        Ok(())
    })
}

/// Removes the parts that no listed image needs. Returns how many trees stay because they are in
/// use.
pub(super) fn prune(store: &StoreDirectory, cancel: &Cancel) -> Result<usize> {
    let lock = store.lock_parts_exclusively(cancel)?;
    remove_abandoned(&store.staging())?;
    let index = Index::read(store.path())?;
    let trees: BTreeSet<_> = index.images.values().map(|record| record.chain.hex()).collect();
    let layers: BTreeSet<_> = index.images.values().flat_map(|record| &record.layers).map(Digest::hex).collect();
    let mut staging = Staging::new(&store.staging())?;
    let mut in_use = 0;
    for tree in unneeded(&store.trees(), &trees)? {
        match lock_directory(&tree, FlockOperation::NonBlockingLockExclusive)? {
            Some(_lock) => staging.take(&tree)?,
            None => in_use += 1,
        }
    }
    // A tree has links of its own to its layers' files.
    for layer in unneeded(&store.layers(), &layers)? {
        staging.take(&layer)?;
    }
    drop(lock);
    drop(staging);
    Ok(in_use)
}

/// The directories below `parent` whose names are not in a set.
fn unneeded(parent: &Path, needed: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
    let mut unneeded = Vec::new();
    for entry in fs::read_dir(parent).fail_at(ErrorKind::Image, Step::OpenStore, parent)? {
        let entry = entry.fail_at(ErrorKind::Image, Step::OpenStore, parent)?;
        if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
            unneeded.push(entry.path());
        }
    }
    Ok(unneeded)
}
