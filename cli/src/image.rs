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
    #[arg(long, value_name = "DIR", requires = "image", value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,
}

impl ImageOptions {
    /// The root that the options name.
    pub async fn root(&self) -> cellblock::Result<Option<Root>> {
        let Some(image) = &self.image else { return Ok(None) };
        let root = Root::image(image);
        Ok(Some(match &self.store {
            Some(store) => root.store(Store::open(store).await?),
            None => root,
        }))
    }
}
