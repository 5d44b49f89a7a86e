//! The store of unpacked images.
//!
//! Invariant: its public methods are futures whose work is done on a thread that may block.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

use super::caps::UnpackCaps;
use super::config::ImageConfig;
use super::digest::Digest;
use super::directory::StoreDirectory;
use super::import::Import;
use super::index::{Index, Record};
use super::manifest::Manifest;
use super::meter::{Cancel, CancelOnDrop};
use super::prune;
use super::source::Source;

/// A directory of unpacked images, by their digests. Processes and containers share it.
///
/// Each layer is unpacked once. Each image has one tree, whose files are hard links to the files of
/// its layers. Containers mount the tree read-only, under a tmpfs for their changes.
///
/// ```no_run
/// # async fn example() -> cellblock::Result<()> {
/// use cellblock::image::Store;
/// use cellblock::{Container, Root};
///
/// let store = Store::open("/srv/images").await?;
/// store.import("python.tar", None, Some("python")).await?;
/// let root = Root::image("python").store(store);
/// let container = Container::builder().root(root).build().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) directory: StoreDirectory,
    pub(super) caps: UnpackCaps,
}

/// An image of a [`Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredImage {
    /// The digest of the image's configuration.
    pub digest: Digest,
    /// Its names in the store.
    pub names: Vec<String>,
    /// The digests of its layers without compression, the lowest first.
    pub layers: Vec<Digest>,
    /// The size of its layers without compression, in bytes.
    pub bytes: u64,
    /// When it was made, as its configuration has it (RFC 3339).
    pub created: Option<String>,
    /// What it sets for its programs.
    pub config: ImageConfig,
}

/// What a removal has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// How many image trees stay on disk because a process uses them. A later removal takes them.
    pub in_use: usize,
}

impl Store {
    /// Opens the store in a directory, and makes it if it is missing.
    ///
    /// Its file system must allow hard links. No other user may write to it.
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if the directory cannot be made, belongs to
    /// another user, or may be written to by others.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        off_runtime(move |_| Self::open_blocking(&directory)).await
    }

    /// The directory of the default store: `/var/lib/cellblock` for root, and otherwise
    /// `$XDG_CACHE_HOME/cellblock`, or `~/.cache/cellblock`.
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if the environment has neither variable.
    pub fn default_directory() -> Result<PathBuf> {
        default_directory()
    }

    /// Sets the caps on images that are unpacked from now on. An image that the store has is not
    /// measured again. Default: those of [`UnpackCaps`].
    #[must_use]
    pub fn caps(self, caps: UnpackCaps) -> Self {
        Self { caps, ..self }
    }

    /// Unpacks an image into the store, and gives it a name. If the store has the image, only the
    /// name is new. A name that another image has moves to this one. Without a name, the image gets
    /// the name that the source has for it, if there is one.
    ///
    /// `path` is an OCI layout, an archive of one, or an archive of `docker save`. `tag` chooses
    /// one of several images: a tag, or a whole reference.
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) with the entry of the archive, or the file,
    /// that is at fault. Nothing of that image is in the store then, except for complete layers.
    ///
    /// # Cancel safety
    /// Dropping the future ends the import soon. Complete layers stay in the store.
    pub async fn import(&self, path: impl Into<PathBuf>, tag: Option<&str>, name: Option<&str>) -> Result<StoredImage> {
        let (store, path) = (self.clone(), path.into());
        let (tag, name) = (tag.map(str::to_owned), name.map(str::to_owned));
        off_runtime(move |cancel| {
            let source = Source::open(&path)?;
            let manifest = Manifest::choose(&source, tag.as_deref(), store.caps)?;
            let name = name.or_else(|| manifest.reference.clone());
            let (source, manifest) = (&source, &manifest);
            let import = Import { store: &store.directory, source, manifest, caps: store.caps, cancel };
            let (_, record) = import.run(name.as_deref())?;
            Ok(stored(manifest.id, record))
        })
        .await
    }

    /// The images of the store.
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if the store cannot be read.
    pub async fn images(&self) -> Result<Vec<StoredImage>> {
        let directory = self.directory.clone();
        off_runtime(move |_| {
            let index = Index::read(directory.path())?;
            Ok(index.images.into_iter().map(|(id, record)| stored(id, record)).collect())
        })
        .await
    }

    /// Removes an image by a name, or by its digest, of which 8 digits are enough. An image that
    /// has other names only loses this one. Then removes what [`prune`](Self::prune) removes of
    /// trees and layers.
    ///
    /// A tree that a container uses stays on disk. This holds for every process that has a
    /// container with it, or a [`Root`](crate::Root) that has built one.
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if there is no such image, or if the store
    /// cannot be written to.
    pub async fn remove(&self, image: &str) -> Result<Removed> {
        let (directory, image) = (self.directory.clone(), image.to_owned());
        off_runtime(move |cancel| {
            prune::unlist(&directory, &image, cancel)?;
            Ok(Removed { in_use: prune::prune(&directory, cancel)? })
        })
        .await
    }

    /// Removes the images without a name, and the trees and layers that no image needs. Trees in
    /// use stay, as for [`remove`](Self::remove).
    ///
    /// # Errors
    /// [`ErrorKind::Image`](crate::ErrorKind::Image) if the store cannot be written to.
    pub async fn prune(&self) -> Result<Removed> {
        let directory = self.directory.clone();
        off_runtime(move |cancel| {
            prune::unlist_unnamed(&directory, cancel)?;
            Ok(Removed { in_use: prune::prune(&directory, cancel)? })
        })
        .await
    }

    pub(super) fn open_blocking(directory: &Path) -> Result<Self> {
        Ok(Self { directory: StoreDirectory::open(directory)?, caps: UnpackCaps::default() })
    }
}

pub(super) fn default_directory() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/cellblock".into());
    }
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = directory("XDG_CACHE_HOME").or_else(|| Some(directory("HOME")?.join(".cache")));
    let missing = || {
        let why = "the environment has neither XDG_CACHE_HOME nor HOME: open a store by its path";
        Error::new(ErrorKind::Image, Step::OpenStore).detail(why)
    };
    Ok(cache.ok_or_else(missing)?.join("cellblock"))
}

fn stored(digest: Digest, record: Record) -> StoredImage {
    let Record { names, layers, bytes, created, config, .. } = record;
    StoredImage { digest, names, layers, bytes, created, config }
}

/// Runs blocking work on a thread for it. Dropping the future makes the work end.
pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce(&Cancel) -> Result<T> + Send + 'static,
) -> Result<T> {
    let cancel = Cancel::default();
    let _guard = CancelOnDrop(cancel.clone());
    tokio::task::spawn_blocking(move || work(&cancel)).await.fail(ErrorKind::Image, Step::WriteStore)?
}
