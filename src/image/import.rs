//! From an image to its tree in the store.
//!
//! Invariant: what the store has under a digest has that digest.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode};

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::caps::UnpackCaps;
use super::config::ImageConfig;
use super::digest::Digest;
use super::directory::{LockedTree, StoreDirectory};
use super::index::{Index, Record};
use super::manifest::{LayerBlob, Manifest};
use super::merge::Merge;
use super::meter::{Cancel, Used, exceeds};
use super::source::Source;
use super::staging::{FileLock, Staging, remove_abandoned};
use super::tree::{Tree, open_directory};
use super::unpack::{Layer, Unpacked, unpack};

/// How long a process waits for another that unpacks the same image. Then it does the work itself:
/// the other may be stopped.
const TURN_TIME: Duration = Duration::from_secs(600);

/// The file beside a tree that says how many bytes its layers have.
const TREE_SIZE: &str = "bytes";

/// An import: a source's image, on its way to the store.
pub(super) struct Import<'a> {
    pub(super) store: &'a StoreDirectory,
    pub(super) source: &'a Source,
    pub(super) manifest: &'a Manifest,
    pub(super) caps: UnpackCaps,
    pub(super) cancel: &'a Cancel,
}

impl Import<'_> {
    /// Finds the tree of the image, or makes it, and lists the image, under a name if there is one.
    pub(super) fn run(&self, name: Option<&str>) -> Result<(LockedTree, Record)> {
        let chain = chain_id(&self.manifest.layers);
        let tree = match self.store.lock_tree(chain)? {
            Some(tree) => tree,
            None => self.make_tree(chain)?,
        };
        Ok((tree, self.list(chain, name)?))
    }

    /// Makes the tree, unless another process has made it by now.
    fn make_tree(&self, chain: Digest) -> Result<LockedTree> {
        let (turn, exclusive) = (self.store.locks().join(chain.hex()), FlockOperation::NonBlockingLockExclusive);
        let _turn = FileLock::wait(&turn, exclusive, TURN_TIME, self.cancel)?;
        if let Some(tree) = self.store.lock_tree(chain)? {
            return Ok(tree);
        }
        let _parts = self.store.lock_parts(self.cancel)?;
        remove_abandoned(&self.store.staging())?;
        let bytes = self.unpack_layers()?;
        self.merge_layers(chain, bytes)?;
        let missing = || Error::new(ErrorKind::Image, Step::OpenStore).at(self.store.tree(chain)).errno(libc::ENOENT);
        self.store.lock_tree(chain)?.ok_or_else(missing)
    }

    /// Unpacks the layers that the store lacks. Returns the size of all.
    fn unpack_layers(&self) -> Result<u64> {
        let mut used = Used::default();
        for blob in &self.manifest.layers {
            let layer = match self.store.layer(blob.diff_id) {
                place if place.exists() => read_layer(&place)?,
                place => self.unpack_layer(blob, &place, used)?,
            };
            used.bytes = used.bytes.saturating_add(layer.bytes);
            used.entries = used.entries.saturating_add(layer.entries);
            if used.bytes > self.caps.bytes {
                return Err(exceeds("bytes", self.caps.bytes).at(self.source.path()));
            }
            if used.entries > self.caps.entries {
                return Err(exceeds("entries", self.caps.entries).at(self.source.path()));
            }
        }
        Ok(used.bytes)
    }

    fn unpack_layer(&self, blob: &LayerBlob, place: &Path, before: Used) -> Result<Layer> {
        let Some(file) = self.source.file(&blob.file)? else {
            return Err(self.source.error(format!("the layer {} is missing", blob.file)));
        };
        if let Some((_, size)) = blob.stored.filter(|&(_, size)| size != file.size()) {
            return Err(self.source.error(format!("the layer {} of {size} bytes has {}", blob.file, file.size())));
        }
        let staging = Staging::new(&self.store.staging())?;
        let files = staging.make_directory("files")?;
        let unpacked = unpack(file, files, self.caps, before, self.cancel.clone())?;
        self.check(blob, &unpacked)?;
        write_layer(staging.path(), &unpacked.layer)?;
        staging.publish(place)?;
        Ok(unpacked.layer)
    }

    fn check(&self, blob: &LayerBlob, unpacked: &Unpacked) -> Result<()> {
        let check = |what: &str, expected: Digest, found: Digest| match expected == found {
            true => Ok(()),
            false => Err(self.source.error(format!("{what} {} has the digest {found}, and not {expected}", blob.file))),
        };
        if let Some((stored, _)) = blob.stored {
            check("the layer", stored, unpacked.blob)?;
        }
        check("the uncompressed layer", blob.diff_id, unpacked.archive)
    }

    fn merge_layers(&self, chain: Digest, bytes: u64) -> Result<()> {
        let staging = Staging::new(&self.store.staging())?;
        let mut merge = Merge::new(staging.make_directory("root")?, self.cancel.clone());
        for blob in &self.manifest.layers {
            let place = self.store.layer(blob.diff_id);
            let files = open_directory(rustix::fs::CWD, place.join("files"));
            let files = files.fail_at(ErrorKind::Image, Step::OpenStore, &place)?;
            merge.add(&read_layer(&place)?, &Tree::new(files))?;
        }
        let (root, attributes) = (staging.path().join("root"), merge.finish()?);
        let set = || {
            rustix::fs::chmod(&root, Mode::from_raw_mode(attributes.mode))?;
            rustix::fs::utimensat(rustix::fs::CWD, &root, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)
        };
        set().fail_at(ErrorKind::Image, Step::WriteStore, &root)?;
        let size = staging.path().join(TREE_SIZE);
        std::fs::write(&size, bytes.to_string()).fail_at(ErrorKind::Image, Step::WriteStore, &size)?;
        staging.publish(&self.store.tree(chain))
    }

    /// Adds the image to the store's list, unless it is there under that name.
    fn list(&self, chain: Digest, name: Option<&str>) -> Result<Record> {
        let id = self.manifest.id;
        let is_listed = |record: &&Record| name.is_none_or(|name| record.names.iter().any(|it| it == name));
        if let Some(record) = Index::read(self.store.path())?.images.get(&id).filter(is_listed) {
            return Ok(record.clone());
        }
        let size = self.store.tree(chain).join(TREE_SIZE);
        let bytes = std::fs::read_to_string(&size).fail_at(ErrorKind::Image, Step::OpenStore, &size)?;
        let record = Record {
            names: Vec::new(),
            chain,
            layers: self.manifest.layers.iter().map(|layer| layer.diff_id).collect(),
            bytes: bytes.parse().map_err(io::Error::other).fail_at(ErrorKind::Image, Step::OpenStore, &size)?,
            created: self.manifest.config.created().clone(),
            config: ImageConfig::from(&self.manifest.config),
        };
        Index::update(self.store.path(), self.cancel, |index| {
            if let Some(name) = name {
                index.images.values_mut().for_each(|record| record.names.retain(|it| it != name));
            }
            let record = index.images.entry(id).or_insert(record);
            record.names.extend(name.map(str::to_owned));
            Ok(record.clone())
        })
    }
}

/// The digest that names the tree of these layers, as the OCI image specification has it.
fn chain_id(layers: &[LayerBlob]) -> Digest {
    let chain = layers.iter().map(|layer| layer.diff_id).reduce(|chain, layer| Digest::of(format!("{chain} {layer}")));
    chain.unwrap_or_else(|| Digest::of([]))
}

fn read_layer(place: &Path) -> Result<Layer> {
    let path = place.join("layer");
    let file = File::open(&path).fail_at(ErrorKind::Image, Step::OpenStore, &path)?;
    rmp_serde::from_read(BufReader::new(file))
        .map_err(|error| Error::new(ErrorKind::Image, Step::OpenStore).at(&path).detail(error.to_string()))
}

fn write_layer(place: &Path, layer: &Layer) -> Result<()> {
    let path = place.join("layer");
    let bytes = rmp_serde::to_vec(layer)
        .map_err(|error| Error::new(ErrorKind::Image, Step::WriteStore).at(&path).detail(error.to_string()))?;
    std::fs::write(&path, bytes).fail_at(ErrorKind::Image, Step::WriteStore, &path)
}
