//! The store's list of its images, and their names.
//!
//! Invariant: the list is one file, which is replaced as a whole. Readers take no lock.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::config::ImageConfig;
use super::digest::Digest;
use super::meter::Cancel;
use super::staging::{FileLock, Staging};

const VERSION: u32 = 1;
/// Longer than an update takes on a slow disk.
const LOCK_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) images: BTreeMap<Digest, Record>,
}

/// An image of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) names: Vec<String>,
    /// The tree of the image.
    pub(super) chain: Digest,
    /// The layers, the lowest first.
    pub(super) layers: Vec<Digest>,
    /// Of the layers without compression.
    pub(super) bytes: u64,
    pub(super) created: Option<String>,
    pub(super) config: ImageConfig,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new() }
    }
}

impl Index {
    pub(super) fn read(store: &Path) -> Result<Self> {
        let path = path(store);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes.fail_at(ErrorKind::Image, Step::OpenStore, &path)?,
        };
        let invalid = |why: String| Error::new(ErrorKind::Image, Step::OpenStore).at(&path).detail(why);
        let index: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        match index.version {
            VERSION => Ok(index),
            other => Err(invalid(format!("it has version {other}; this library reads version {VERSION}"))),
        }
    }

    /// Changes the list under a lock. If `change` fails, the list stays.
    pub(super) fn update<T>(store: &Path, cancel: &Cancel, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let Some(_lock) = FileLock::wait(&store.join("index.lock"), exclusive, LOCK_TIME, cancel)? else {
            return Err(Error::new(ErrorKind::Image, Step::OpenStore)
                .at(path(store))
                .detail("another process has it locked"));
        };
        let mut index = Self::read(store)?;
        let changed = change(&mut index)?;
        let staging = Staging::new(&store.join("staging"))?;
        let bytes = serde_json::to_vec_pretty(&index).map_err(io::Error::from);
        bytes.and_then(|bytes| std::fs::write(staging.path().join("index"), bytes)).fail_at(
            ErrorKind::Image,
            Step::WriteStore,
            path(store),
        )?;
        staging.publish_file("index", &path(store))?;
        Ok(changed)
    }

    /// The image with a name, or with a digest of which at least 8 digits are given.
    pub(super) fn find(&self, image: &str) -> Option<Digest> {
        let named = self.images.iter().find(|(_, record)| record.names.iter().any(|name| name == image));
        if let Some((id, _)) = named {
            return Some(*id);
        }
        let digits = image.strip_prefix("sha256:").unwrap_or(image);
        let mut matching = self.images.keys().filter(|id| digits.len() >= 8 && id.hex().starts_with(digits));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Some(*id),
            _ => None,
        }
    }
}

fn path(store: &Path) -> PathBuf {
    store.join("index.json")
}
