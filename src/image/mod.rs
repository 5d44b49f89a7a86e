//! Container images as root file systems, and the [`Store`] that keeps them unpacked.
//!
//! An image is an OCI layout (a directory), an archive of one, or what `docker save` writes. The
//! page [images](crate::guide::images) of the guide shows the use.
//!
//! Images may be hostile. Unpacking makes nothing but files, directories and symbolic links below
//! one directory of the store. It leaves out devices, FIFOs, owners, set-id bits and extended
//! attributes. [`UnpackCaps`] bound what it writes.

// Invariant: what the store has under a digest has that digest, and is complete.

mod attributes;
mod caps;
mod config;
mod decompress;
mod digest;
mod directory;
mod entry_path;
mod import;
mod index;
mod manifest;
mod merge;
mod meter;
mod prune;
mod request;
mod source;
mod staging;
mod store;
mod tree;
mod unpack;
mod user;

pub use caps::UnpackCaps;
pub use config::ImageConfig;
pub use digest::Digest;
pub(crate) use request::{ImageRequest, ResolvedImage};
pub use store::{Removed, Store, StoredImage};
