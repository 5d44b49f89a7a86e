//! The image that a root names, and its tree once that is known.
//!
//! Invariant: a request is resolved once. Its tree stays in the store for as long as the request or
//! a container that uses it lives.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::{Error, ErrorKind, Result, Step};

use super::config::ImageConfig;
use super::import::Import;
use super::index::Index;
use super::manifest::Manifest;
use super::meter::Cancel;
use super::source::Source;
use super::store::{Store, default_directory, off_runtime};
use super::user;

/// An image, or a directory tree, that a root names.
#[derive(Debug)]
pub(crate) struct ImageRequest {
    from: From,
    store: Option<Store>,
    resolved: OnceCell<ResolvedImage>,
}

#[derive(Clone, Debug)]
enum From {
    /// A layout or an archive.
    Image { path: PathBuf, tag: Option<String> },
    /// Any of what [`find`] tells apart.
    Text(OsString),
}

/// A tree for a container, and the image's defaults.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedImage {
    pub(crate) root: PathBuf,
    pub(crate) config: ImageConfig,
    /// The user and group id of the image's user.
    pub(crate) ids: Option<(u32, u32)>,
    /// Keeps the tree in the store.
    pub(crate) guard: Option<Arc<OwnedFd>>,
}

impl ImageRequest {
    pub(crate) fn image(path: PathBuf, tag: Option<String>) -> Self {
        Self::new(From::Image { path, tag }, None)
    }

    pub(crate) fn text(text: OsString) -> Self {
        Self::new(From::Text(text), None)
    }

    /// The same request to another store.
    pub(crate) fn in_store(&self, store: Store) -> Self {
        Self::new(self.from.clone(), Some(store))
    }

    fn new(from: From, store: Option<Store>) -> Self {
        Self { from, store, resolved: OnceCell::new() }
    }

    /// Finds the tree, and first unpacks the image if the store lacks it. If the future that does
    /// it is dropped, the next one begins anew.
    pub(crate) async fn resolve(self: Arc<Self>) -> Result<ResolvedImage> {
        let this = Arc::clone(&self);
        let resolved = self.resolved.get_or_try_init(|| off_runtime(move |cancel| this.resolve_blocking(cancel))).await;
        resolved.cloned()
    }

    fn resolve_blocking(&self, cancel: &Cancel) -> Result<ResolvedImage> {
        match &self.from {
            From::Image { path, tag } => {
                self.resolve_found(&Found::Image { path: path.clone(), tag: tag.clone() }, cancel)
            }
            From::Text(text) => self.resolve_found(&find(text)?, cancel),
        }
    }

    fn resolve_found(&self, found: &Found, cancel: &Cancel) -> Result<ResolvedImage> {
        let store = || match &self.store {
            Some(store) => Ok(store.clone()),
            None => Store::open_blocking(&default_directory()?),
        };
        let (tree, record) = match found {
            Found::Directory(root) => {
                let (root, config) = (root.clone(), ImageConfig::default());
                return Ok(ResolvedImage { root, config, ids: None, guard: None });
            }
            Found::Image { path, tag } => {
                let (store, source) = (store()?, Source::open(path)?);
                let manifest = Manifest::choose(&source, tag.as_deref(), store.caps)?;
                let import =
                    Import { store: &store.directory, source: &source, manifest: &manifest, caps: store.caps, cancel };
                import.run(None)?
            }
            Found::Name(name) => {
                let (store, name) = (store()?, name.as_str());
                let missing = |why: &str| Err(Error::new(ErrorKind::Image, Step::FindImage).at(name).detail(why));
                let index = Index::read(store.directory.path())?;
                let Some(record) = index.find(name).and_then(|id| index.images.get(&id)) else {
                    return missing("there is no such path, and the store has no image of that name");
                };
                match store.directory.lock_tree(record.chain)? {
                    Some(tree) => (tree, record.clone()),
                    None => return missing("it was just removed from the store"),
                }
            }
        };
        let ids = record.config.user.as_ref().map(|user| user::ids(&tree.root, user)).transpose()?;
        Ok(ResolvedImage { root: tree.root, config: record.config, ids, guard: Some(tree.lock) })
    }
}

/// What a text stands for.
enum Found {
    Directory(PathBuf),
    Image { path: PathBuf, tag: Option<String> },
    Name(String),
}

/// Tells whether a text is a path, a path with a tag, or the name of an image in the store. A path
/// that exists comes first. A text that begins as only a path does is never a name.
fn find(text: &OsStr) -> Result<Found> {
    let path = Path::new(text);
    if path.exists() {
        return Ok(match path.is_dir() && !is_layout(path) {
            true => Found::Directory(path.to_owned()),
            false => Found::Image { path: path.to_owned(), tag: None },
        });
    }
    let bytes = text.as_bytes();
    let colons = bytes.iter().enumerate().rev().filter(|&(place, &byte)| byte == b':' && place > 0);
    for (colon, _) in colons {
        let path = Path::new(OsStr::from_bytes(&bytes[..colon]));
        let Ok(tag) = std::str::from_utf8(&bytes[colon + 1..]) else { continue };
        if path.is_file() || is_layout(path) {
            return Ok(Found::Image { path: path.to_owned(), tag: Some(tag.to_owned()) });
        }
    }
    let is_path = ["/", "./", "../"].iter().any(|start| bytes.starts_with(start.as_bytes()));
    match text.to_str() {
        Some(name) if !is_path => Ok(Found::Name(name.to_owned())),
        _ => Err(Error::new(ErrorKind::Image, Step::FindImage).at(path).errno(libc::ENOENT)),
    }
}

fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file() || path.join("index.json").is_file()
}
