//! The options that name the root file system of containers.

use std::ffi::OsString;
use std::path::PathBuf;

use cellblock::Root;
use cellblock::image::Store;
use clap::{Args, ValueHint};

#[derive(Args)]
pub struct ImageOptions {
    /// Use a container image, or a directory with a whole system, for the root
    ///
    /// IMAGE is a directory, an OCI layout, an archive of one or of `docker save`, or the name of
    /// an image that `cellblock images import` has stored. PATH:TAG chooses one of several images.
    /// Nothing else of the host is seen. Programs may change everything; the image stays as it is.
    #[arg(long, value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub image: Option<OsString>,
    /// Keep unpacked images in this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,
}

/// The root that the options name, and the store in which others are found.
pub struct Roots {
    pub default: Option<Root>,
    store: Option<Store>,
}

impl ImageOptions {
    /// The root that the options name.
    pub async fn root(&self) -> cellblock::Result<Option<Root>> {
        Ok(self.open().await?.default)
    }

    pub async fn open(&self) -> cellblock::Result<Roots> {
        let store = match &self.store {
            Some(store) => Some(Store::open(store).await?),
            None => None,
        };
        let roots = Roots { default: None, store };
        Ok(Roots { default: self.image.as_ref().map(|image| roots.named(image)), ..roots })
    }
}

impl Roots {
    /// The root that a path or a name stands for.
    pub fn named(&self, image: impl Into<OsString>) -> Root {
        let root = Root::image(image);
        match &self.store {
            Some(store) => root.store(store.clone()),
            None => root,
        }
    }
}
