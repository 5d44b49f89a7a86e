//! Images made by the tests: layers, layouts and archives.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The archive of a layer.
#[derive(Clone)]
pub struct Layer {
    pub tar: Vec<u8>,
    compression: Compression,
}

#[derive(Clone, Copy)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Layer {
    pub fn new() -> Self {
        Self { tar: Vec::new(), compression: Compression::Gzip }
    }

    pub fn compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), "", mode, b"")
    }

    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), "", mode, content.as_ref())
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), target, 0o777, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path.as_bytes(), target, 0o644, b"")
    }

    /// Adds an entry with any name, as it is.
    pub fn entry(self, kind: EntryType, name: &[u8], target: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        self.raw(header, content)
    }

    /// Adds a header with its content.
    pub fn raw(mut self, mut header: Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.tar.extend(header.as_bytes());
        self.tar.extend(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// Adds a file as the tar crate does it, with headers for a long name.
    pub fn long_file(mut self, path: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let mut builder = Builder::new(Vec::new());
        builder.append_data(&mut header, path, content).unwrap();
        self.tar.extend(without_end(builder));
        self
    }

    /// Adds a file whose name and attributes are in a PAX header.
    pub fn pax_file(mut self, records: &[(&str, &[u8])], content: &[u8]) -> Self {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        self.tar.extend(without_end(builder));
        self.file("short", 0o644, content)
    }

    fn archive(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    fn stored(&self) -> Vec<u8> {
        let tar = self.archive();
        match self.compression {
            Compression::None => tar,
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&tar).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => ruzstd::encoding::compress_to_vec(&*tar, ruzstd::encoding::CompressionLevel::Fastest),
        }
    }

    fn media_type(&self) -> String {
        let suffix = match self.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        format!("application/vnd.oci.image.layer.v1.tar{suffix}")
    }
}

fn without_end(mut builder: Builder<Vec<u8>>) -> Vec<u8> {
    builder.finish().unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// An image: layers and a configuration.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub config: Value,
    pub architecture: &'static str,
}

impl Image {
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self { layers: layers.into_iter().collect(), config: json!({}), architecture: this_machine() }
    }

    pub fn config(self, config: Value) -> Self {
        Self { config, ..self }
    }

    pub fn architecture(self, architecture: &'static str) -> Self {
        Self { architecture, ..self }
    }

    fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| digest(&layer.archive())).collect();
        let created = "2024-02-03T04:05:06Z";
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let os = "linux";
        let config = json!({"architecture": self.architecture, "os": os, "created": created,
            "config": self.config, "rootfs": rootfs});
        config.to_string().into_bytes()
    }

    /// Writes the blobs to a layout. Returns the descriptor of the manifest.
    pub fn write_blobs(&self, layout: &Path) -> Value {
        let layers = self.layers.iter().map(|layer| write_blob(layout, &layer.stored(), &layer.media_type()));
        let layers: Vec<_> = layers.collect();
        let config = write_blob(layout, &self.configuration(), "application/vnd.oci.image.config.v1+json");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        write_blob(layout, manifest.to_string().as_bytes(), media_type)
    }

    /// Writes a layout with this image alone, under a tag.
    pub fn layout(&self, layout: &Path, tag: &str) -> PathBuf {
        write_layout(layout, &[tagged(self.write_blobs(layout), tag)]);
        layout.to_owned()
    }

    /// Writes an archive as `docker save` did before it wrote layouts.
    pub fn docker_archive(&self, path: &Path, tag: &str) -> PathBuf {
        let mut builder = Builder::new(fs::File::create(path).unwrap());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        let config = self.configuration();
        let config_name = format!("{}.json", &digest(&config)[7..]);
        add(&config_name, &config);
        let mut names = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            names.push(format!("{number}/layer.tar"));
            add(&format!("{number}.tar"), &layer.archive());
        }
        let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
        add("manifest.json", manifest.to_string().as_bytes());
        // skopeo writes the names of layers as links.
        for number in 0..self.layers.len() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, format!("{number}/layer.tar"), format!("../{number}.tar")).unwrap();
        }
        builder.finish().unwrap();
        path.to_owned()
    }
}

/// Writes the index of a layout whose blobs are there.
pub fn write_layout(layout: &Path, manifests: &[Value]) {
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

pub fn write_blob(layout: &Path, bytes: &[u8], media_type: &str) -> Value {
    let digest = digest(bytes);
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(&digest[7..]), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// A descriptor with a tag.
pub fn tagged(mut descriptor: Value, tag: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    descriptor
}

/// A descriptor for a platform.
pub fn for_platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

/// Packs a layout into an archive.
pub fn archive(layout: &Path, path: &Path) -> PathBuf {
    let mut builder = Builder::new(fs::File::create(path).unwrap());
    builder.append_dir_all(".", layout).unwrap();
    builder.finish().unwrap();
    path.to_owned()
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn this_machine() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

pub fn other_machine() -> &'static str {
    match this_machine() {
        "arm64" => "amd64",
        _ => "arm64",
    }
}
