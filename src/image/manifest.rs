//! Which image a source has: from an OCI layout's index, or from the manifest of `docker save`.
//!
//! Invariant: what a digest names is used only if it has that digest and size.

use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Result;

use super::caps::UnpackCaps;
use super::config::ImageConfig;
use super::digest::Digest;
use super::source::Source;

/// The most bytes of an index, a manifest or a configuration.
const MAX_JSON: u64 = 8 << 20;
/// Indexes within indexes.
const MAX_NESTING: usize = 4;
/// The name that a layout gives to an image: a tag, or a whole reference.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole reference, in layouts of containerd and Docker.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// An image of a source.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The digest of the configuration, which tells images apart.
    pub(super) id: Digest,
    pub(super) config: ImageConfiguration,
    /// The lowest first.
    pub(super) layers: Vec<LayerBlob>,
    /// The image's reference, if the source has one: `python:3.12`.
    pub(super) reference: Option<String>,
}

/// A layer as the source has it.
#[derive(Debug)]
pub(super) struct LayerBlob {
    pub(super) diff_id: Digest,
    /// Its file in the source.
    pub(super) file: String,
    /// Its digest as it is stored, and its size. `docker save` has none.
    pub(super) stored: Option<(Digest, u64)>,
}

impl Manifest {
    /// Chooses the image with a tag, or the only one. Among several platforms, it is this
    /// machine's.
    pub(super) fn choose(source: &Source, tag: Option<&str>, caps: UnpackCaps) -> Result<Self> {
        let manifest = match (read_json(source, "index.json")?, read_json(source, "manifest.json")?) {
            (Some(index), _) => from_layout(source, index, tag)?,
            (None, Some(saved)) => from_docker(source, saved, tag)?,
            (None, None) => {
                return Err(source.error("no image: it has neither an index.json nor a manifest.json"));
            }
        };
        if manifest.layers.len() > caps.layers {
            return Err(super::meter::exceeds("layers", caps.layers as u64).at(source.path()));
        }
        Ok(manifest)
    }
}

fn from_layout(source: &Source, index: ImageIndex, tag: Option<&str>) -> Result<Manifest> {
    let images: Vec<_> = index.manifests().iter().filter(|it| is_image(it)).collect();
    let chosen = images.iter().copied().filter(|it| tag.is_none_or(|tag| names(it).any(|name| is_named(name, tag))));
    let image = only(source, chosen.collect(), tag, || images.iter().flat_map(|it| names(it)).collect())?;
    let reference = names(image).max_by_key(|name| name.len()).map(str::to_owned);
    let manifest = manifest_of(source, image)?;

    let (config, id) = (read_blob(source, manifest.config())?, digest(source, manifest.config())?);
    let config: ImageConfiguration = parse(source, &config, "configuration")?;
    let diff_ids = diff_ids(source, &config, manifest.layers().len())?;
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        let stored = digest(source, layer)?;
        Ok(LayerBlob { diff_id, file: blob_file(stored), stored: Some((stored, layer.size())) })
    });
    Ok(Manifest { id, layers: layers.collect::<Result<_>>()?, config, reference })
}

/// The manifest of a descriptor. Where that names an index, the one for this machine.
fn manifest_of(source: &Source, image: &Descriptor) -> Result<ImageManifest> {
    let mut image = image.clone();
    for _ in 0..MAX_NESTING {
        let blob = read_blob(source, &image)?;
        if !is_index(&image, &blob) {
            return parse(source, &blob, "manifest");
        }
        let index: ImageIndex = parse(source, &blob, "index")?;
        let images: Vec<_> = index.manifests().iter().filter(|it| is_image(it)).collect();
        image = only(source, images, None, Vec::new)?.clone();
    }
    Err(source.error("indexes within indexes"))
}

/// The one image of several. If there are more, each for a platform, it is the one for this
/// machine.
fn only<'a>(
    source: &Source,
    images: Vec<&'a Descriptor>,
    tag: Option<&str>,
    names: impl Fn() -> Vec<&'a str>,
) -> Result<&'a Descriptor> {
    let for_platforms = images.len() > 1 && images.iter().all(|it| it.platform().is_some());
    let fitting: Vec<_> = match for_platforms {
        true => images.iter().filter(|it| it.platform().as_ref().is_some_and(fits)).copied().collect(),
        false => images,
    };
    match (&*fitting, tag) {
        (&[image], _) => Ok(image),
        ([], _) if for_platforms => Err(source.error(format!("no image for linux/{}", architecture()))),
        ([], Some(tag)) => {
            Err(source.error(format!("no image has the tag {tag:?}; there are: {}", names().join(", "))))
        }
        ([], None) => Err(source.error("it has no image")),
        (_, Some(tag)) => Err(source.error(format!("several images have the tag {tag:?}"))),
        (_, None) => Err(source.error(format!("several images; give a tag of: {}", names().join(", ")))),
    }
}

fn from_docker(source: &Source, images: Vec<SavedImage>, tag: Option<&str>) -> Result<Manifest> {
    let has_tag = |image: &&SavedImage| tag.is_none_or(|tag| image.tags().any(|name| is_named(name, tag)));
    let chosen: Vec<_> = images.iter().filter(has_tag).collect();
    let names = || images.iter().flat_map(SavedImage::tags).collect::<Vec<_>>().join(", ");
    let image = match (&*chosen, tag) {
        (&[image], _) => image,
        ([], Some(tag)) => return Err(source.error(format!("no image has the tag {tag:?}; there are: {}", names()))),
        ([], None) => return Err(source.error("it has no image")),
        _ => return Err(source.error(format!("several images; give a tag of: {}", names()))),
    };
    let Some(config) = source.read(&image.config, MAX_JSON)? else {
        return Err(source.error(format!("{} is missing", image.config)));
    };
    let id = Digest::of(&config);
    let config: ImageConfiguration = parse(source, &config, "configuration")?;
    let diff_ids = diff_ids(source, &config, image.layers.len())?;
    let layers = image.layers.iter().zip(diff_ids);
    let layers = layers.map(|(file, diff_id)| LayerBlob { diff_id, file: file.clone(), stored: None }).collect();
    Ok(Manifest { id, config, layers, reference: image.tags().next().map(str::to_owned) })
}

/// An image in the manifest.json of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl SavedImage {
    fn tags(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }
}

/// Whether a reference is `tag`, or has that tag: `python:3.12` has the tag `3.12`.
fn is_named(reference: &str, tag: &str) -> bool {
    reference == tag || reference.rsplit_once(':').is_some_and(|(_, last)| last == tag)
}

fn names(image: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = image.annotations().as_ref();
    [REF_NAME, IMAGE_NAME].into_iter().filter_map(move |key| annotations?.get(key).map(String::as_str))
}

/// Whether a descriptor may name an image. Builders add attestations, for an unknown platform.
fn is_image(descriptor: &Descriptor) -> bool {
    let is_attestation = |platform: &Platform| platform.os().to_string() == "unknown";
    !descriptor.platform().as_ref().is_some_and(is_attestation)
}

fn is_index(descriptor: &Descriptor, blob: &[u8]) -> bool {
    const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    #[derive(Deserialize)]
    struct Manifests {
        manifests: Option<serde::de::IgnoredAny>,
    }
    match descriptor.media_type() {
        MediaType::ImageIndex => true,
        MediaType::Other(other) if other == DOCKER_LIST => true,
        MediaType::ImageManifest => false,
        _ => serde_json::from_slice::<Manifests>(blob).is_ok_and(|it| it.manifests.is_some()),
    }
}

fn fits(platform: &Platform) -> bool {
    platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture()
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digests of the layers' archives. A configuration for another machine, or one that no program
/// can be started with, is refused here.
fn diff_ids(source: &Source, config: &ImageConfiguration, layers: usize) -> Result<Vec<Digest>> {
    let (os, machine) = (config.os().to_string(), config.architecture().to_string());
    if (os.as_str(), machine.as_str()) != ("linux", architecture()) {
        return Err(source.error(format!("the image is for {os}/{machine}, and not for linux/{}", architecture())));
    }
    if !ImageConfig::from(config).is_usable() {
        return Err(source.error("its configuration has a NUL byte, or a variable without a name"));
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != layers {
        return Err(source.error(format!("{layers} layers, and {} digests of them", diff_ids.len())));
    }
    diff_ids.iter().map(|it| parse_digest(source, it)).collect()
}

fn read_blob(source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let expected = digest(source, descriptor)?;
    let Some(blob) = source.read(&blob_file(expected), MAX_JSON)? else {
        return Err(source.error(format!("the blob {expected} is missing")));
    };
    let found = Digest::of(&blob);
    if (found, blob.len() as u64) != (expected, descriptor.size()) {
        let (size, found_size) = (descriptor.size(), blob.len());
        return Err(
            source.error(format!("the blob {expected} of {size} bytes has the digest {found} and {found_size} bytes"))
        );
    }
    Ok(blob)
}

fn blob_file(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn digest(source: &Source, descriptor: &Descriptor) -> Result<Digest> {
    parse_digest(source, descriptor.digest().as_ref())
}

fn parse_digest(source: &Source, text: &str) -> Result<Digest> {
    Digest::from_str(text).map_err(|_| source.error(format!("{text:?} is no SHA-256 digest")))
}

/// Reads a file of JSON. `None` if there is none.
fn read_json<T: DeserializeOwned>(source: &Source, name: &str) -> Result<Option<T>> {
    source.read(name, MAX_JSON)?.map(|bytes| parse(source, &bytes, name)).transpose()
}

fn parse<T: DeserializeOwned>(source: &Source, bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| source.error(format!("no valid {what}: {error}")))
}
