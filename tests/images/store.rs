//! What the store has after an import.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cellblock::ErrorKind;
use cellblock::image::{Store, StoredImage};
use serde_json::json;
use tempfile::TempDir;

use crate::make::{self, Compression, Image, Layer, archive, for_platform, tagged, write_layout};

/// A store, and a place for images.
pub struct Place {
    pub dir: TempDir,
    pub store: Store,
}

impl Place {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).await.unwrap();
        Self { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub async fn import(&self, image: &Image) -> cellblock::Result<StoredImage> {
        let layout = image.layout(&self.make_dir("image"), "latest");
        let imported = self.store.import(layout, None, None).await;
        fs::remove_dir_all(self.path("image")).unwrap();
        imported
    }

    /// The root of the only tree.
    pub fn root(&self) -> PathBuf {
        let trees: Vec<_> = self.parts("trees");
        assert_eq!(trees.len(), 1, "{trees:?}");
        trees[0].join("root")
    }

    pub fn parts(&self, kind: &str) -> Vec<PathBuf> {
        let parts = fs::read_dir(self.path("store").join(kind)).unwrap();
        parts.map(|entry| entry.unwrap().path()).collect()
    }
}

/// The modes and contents of a tree.
pub fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut listing = BTreeMap::new();
    let mut below = vec![root.to_owned()];
    while let Some(path) = below.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            below.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("dir {:o}", metadata.mode() & 0o7777)
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else {
            assert!(kind.is_file(), "{}: {kind:?}", path.display());
            let content = fs::read(&path).unwrap();
            format!("{:o} {}", metadata.mode() & 0o7777, String::from_utf8_lossy(&content))
        };
        listing.insert(path.strip_prefix(root).unwrap().to_owned(), what);
    }
    listing
}

fn expected<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<PathBuf, String> {
    entries.map(|(path, what)| (PathBuf::from(path), what.to_owned())).into()
}

#[tokio::test]
async fn a_layer_keeps_modes_links_and_times_but_no_set_id_bits_and_no_devices() {
    let place = Place::new().await;
    let layer = Layer::new()
        .dir("./", 0o711)
        .dir("bin/", 0o755)
        .file("bin/su", 0o6755, "su")
        .hard_link("bin/sudo", "./bin/su")
        .symlink("bin/sh", "/bin/su")
        .symlink("outside", "../../../etc")
        .dir("tmp", 0o1777)
        .file("implied/deep/file", 0o640, "deep")
        .entry(tar::EntryType::Char, b"dev/null", "", 0o666, b"")
        .entry(tar::EntryType::Fifo, b"pipe", "", 0o666, b"");
    place.import(&Image::new([layer])).await.unwrap();
    let root = place.root();
    let tree = listing(&root);
    assert_eq!(
        tree,
        expected([
            ("", "dir 711"),
            ("bin", "dir 755"),
            ("bin/su", "755 su"),
            ("bin/sudo", "755 su"),
            ("bin/sh", "-> /bin/su"),
            ("outside", "-> ../../../etc"),
            ("tmp", "dir 1777"),
            ("implied", "dir 755"),
            ("implied/deep", "dir 755"),
            ("implied/deep/file", "640 deep"),
        ])
    );
    let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(inode("bin/su"), inode("bin/sudo"));
    for path in ["bin/su", "bin", "tmp", ""] {
        assert_eq!(fs::metadata(root.join(path)).unwrap().mtime(), 1_700_000_000, "{path}");
    }
}

#[tokio::test]
async fn upper_layers_hide_and_replace_what_is_below() {
    let place = Place::new().await;
    let lower = Layer::new()
        .file("kept", 0o644, "kept")
        .file("removed", 0o644, "removed")
        .dir("gone", 0o755)
        .file("gone/below", 0o644, "below")
        .dir("opaque", 0o700)
        .file("opaque/old", 0o644, "old")
        .file("file-to-dir", 0o644, "file")
        .dir("dir-to-file", 0o755)
        .file("dir-to-file/old", 0o644, "old")
        .symlink("link-to-dir", "kept")
        .dir("mode", 0o700)
        .file("mode/old", 0o600, "old")
        .file("device", 0o644, "a file");
    let upper = Layer::new()
        .compression(Compression::Zstd)
        .file(".wh.removed", 0o644, "")
        .file(".wh.gone", 0o644, "")
        .file(".wh.never-there", 0o644, "")
        .file("kept/.wh.no-directory", 0o644, "")
        .file("opaque/new", 0o644, "new")
        .file("opaque/.wh..wh..opq", 0o644, "")
        .file(".wh..wh.plnk", 0o644, "")
        .file("file-to-dir/new", 0o644, "new")
        .file("dir-to-file", 0o644, "file")
        .file("link-to-dir/new", 0o644, "new")
        .file("mode/new", 0o600, "new")
        .entry(tar::EntryType::Block, b"device", "", 0o600, b"");
    // `kept/.wh.no-directory` needs the directory `kept` in its own layer only.
    place.import(&Image::new([lower, upper])).await.unwrap();
    assert_eq!(
        listing(&place.root()),
        expected([
            ("", "dir 755"),
            ("kept", "644 kept"),
            ("opaque", "dir 700"),
            ("opaque/new", "644 new"),
            ("file-to-dir", "dir 755"),
            ("file-to-dir/new", "644 new"),
            ("dir-to-file", "644 file"),
            ("link-to-dir", "dir 755"),
            ("link-to-dir/new", "644 new"),
            ("mode", "dir 700"),
            ("mode/new", "600 new"),
            ("mode/old", "600 old"),
        ])
    );
}

#[tokio::test]
async fn a_removed_directory_that_comes_back_has_new_attributes() {
    let place = Place::new().await;
    let layers = [
        Layer::new().dir("a", 0o700).dir("a/b", 0o711).file("a/b/old", 0o644, "old"),
        Layer::new().file(".wh.a", 0o644, ""),
        Layer::new().file("a/b/new", 0o644, "new"),
    ];
    place.import(&Image::new(layers)).await.unwrap();
    let tree = [("", "dir 755"), ("a", "dir 755"), ("a/b", "dir 755"), ("a/b/new", "644 new")];
    assert_eq!(listing(&place.root()), expected(tree));
}

#[tokio::test]
async fn entries_that_come_twice_replace_each_other() {
    let place = Place::new().await;
    let layer = Layer::new()
        .file("file", 0o644, "first")
        .file("file", 0o600, "second")
        .dir("dir-to-file/below", 0o755)
        .file("dir-to-file", 0o644, "file")
        .file("file-to-dir", 0o644, "file")
        .dir("file-to-dir", 0o750)
        .file("file-to-dir/below", 0o644, "below")
        .symlink("link-to-dir", "/etc")
        .dir("link-to-dir", 0o755)
        .file("link-to-dir/passwd", 0o644, "inside")
        .symlink("link-to-file", "/etc/passwd")
        .file("link-to-file", 0o644, "inside");
    place.import(&Image::new([layer])).await.unwrap();
    assert_eq!(
        listing(&place.root()),
        expected([
            ("", "dir 755"),
            ("file", "600 second"),
            ("dir-to-file", "644 file"),
            ("file-to-dir", "dir 750"),
            ("file-to-dir/below", "644 below"),
            ("link-to-dir", "dir 755"),
            ("link-to-dir/passwd", "644 inside"),
            ("link-to-file", "644 inside"),
        ])
    );
}

#[tokio::test]
async fn names_may_be_long_and_need_not_be_utf_8() {
    let place = Place::new().await;
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(250));
    let pax = format!("{}/pax", "p".repeat(200));
    let layer = Layer::new()
        .long_file(&long, b"gnu")
        .pax_file(&[("path", pax.as_bytes()), ("SCHILY.xattr.user.mark", b"1"), ("mtime", b"1.5")], b"pax")
        .entry(tar::EntryType::Regular, b"\xff\xfe", "", 0o644, b"bytes");
    place.import(&Image::new([layer])).await.unwrap();
    let root = place.root();
    assert_eq!(fs::read(root.join(long)).unwrap(), b"gnu");
    assert_eq!(fs::read(root.join(&pax)).unwrap(), b"pax");
    assert_eq!(fs::read(root.join(OsStr::from_bytes(b"\xff\xfe"))).unwrap(), b"bytes");
}

#[tokio::test]
async fn sparse_files_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"end", 1 << 20).unwrap();
    let made = std::process::Command::new("tar")
        .args(["--create", "--sparse", "--format=gnu", "--file=-", "--directory"])
        .args([dir.path(), Path::new("sparse")])
        .output()
        .unwrap();
    assert!(made.status.success() && made.stdout.len() < 100_000, "{}", made.stdout.len());
    let mut layer = Layer::new();
    layer.tar = made.stdout;
    let place = Place::new().await;
    place.import(&Image::new([layer])).await.unwrap();
    let bytes = fs::read(place.root().join("sparse")).unwrap();
    assert_eq!((bytes.len(), &bytes[1 << 20..]), ((1 << 20) + 3, &b"end"[..]));
}

#[tokio::test]
async fn directories_and_files_without_rights_are_unpacked_and_removed() {
    let place = Place::new().await;
    let lower = Layer::new().dir("locked", 0o000).dir("locked/below", 0o555).file("locked/below/secret", 0o000, "1");
    let upper = Layer::new().file("locked/below/more", 0o000, "2").file("locked/below/.wh.secret", 0o000, "");
    let image = place.import(&Image::new([lower, upper])).await.unwrap();
    let locked = place.root().join("locked");
    assert_eq!(fs::metadata(&locked).unwrap().mode() & 0o7777, 0);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::metadata(locked.join("below/more")).unwrap().mode() & 0o7777, 0);
    assert!(!locked.join("below/secret").exists());
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    place.store.remove(&image.digest.to_string()).await.unwrap();
    assert_eq!((place.parts("trees"), place.parts("layers"), place.parts("staging")), (vec![], vec![], vec![]));
}

#[tokio::test]
async fn layers_are_shared_and_images_with_150_of_them_work() {
    let place = Place::new().await;
    let layers =
        (0..150).map(|n| Layer::new().file(&format!("{n}"), 0o644, n.to_string()).file("last", 0o644, n.to_string()));
    let all: Vec<_> = layers.collect();
    let image = place.import(&Image::new(all.clone())).await.unwrap();
    assert_eq!(image.layers.len(), 150);
    let root = place.root();
    assert_eq!(fs::read_to_string(root.join("last")).unwrap(), "149");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 151);
    place.import(&Image::new(all[..100].to_vec())).await.unwrap();
    assert_eq!((place.parts("trees").len(), place.parts("layers").len()), (2, 150));
}

#[tokio::test]
async fn every_form_of_an_image_has_the_same_tree() {
    let place = Place::new().await;
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    let layer =
        |(n, compression)| Layer::new().file(&format!("file-{n}"), 0o644, "x".repeat(1000)).compression(compression);
    let image = Image::new(compressions.into_iter().enumerate().map(layer));
    let layout = image.layout(&place.make_dir("layout"), "1.0");
    let packed = archive(&layout, &place.path("layout.tar"));
    let docker = image.docker_archive(&place.path("docker.tar"), "example/image:1.0");
    let mut digests = Vec::new();
    for (path, tag) in [(&layout, None), (&layout, Some("1.0")), (&packed, Some("1.0")), (&docker, None)] {
        digests.push(place.store.import(path, tag, None).await.unwrap().digest);
    }
    digests.push(place.store.import(&docker, Some("1.0"), None).await.unwrap().digest);
    digests.push(place.store.import(&docker, Some("example/image:1.0"), None).await.unwrap().digest);
    assert!(digests.iter().all(|it| *it == digests[0]), "{digests:?}");
    assert_eq!((place.parts("trees").len(), place.parts("layers").len()), (1, 3));
    let images = place.store.images().await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names, ["1.0", "example/image:1.0"]);
    assert_eq!(images[0].created.as_deref(), Some("2024-02-03T04:05:06Z"));
}

#[tokio::test]
async fn a_tag_or_the_platform_chooses_the_image() {
    let place = Place::new().await;
    let layout = place.make_dir("layout");
    let image = |text: &str| Image::new([Layer::new().file("file", 0o644, text)]);
    let (one, two) = (image("one").write_blobs(&layout), image("two").write_blobs(&layout));
    let foreign = image("foreign").architecture(make::other_machine()).write_blobs(&layout);
    let nested = json!({"schemaVersion": 2, "manifests": [
        for_platform(foreign.clone(), "linux", make::other_machine()),
        for_platform(image("native").write_blobs(&layout), "linux", make::this_machine()),
        for_platform(one.clone(), "unknown", "unknown"),
    ]});
    let index = "application/vnd.oci.image.index.v1+json";
    let nested = make::write_blob(&layout, nested.to_string().as_bytes(), index);
    let foreign_alone = tagged(foreign, "foreign");
    write_layout(&layout, &[tagged(one, "one"), tagged(two, "two"), tagged(nested, "both"), foreign_alone]);
    let import = async |tag: Option<&str>| {
        let place = Place::new().await;
        place.store.import(&layout, tag, None).await.map(|_| fs::read_to_string(place.root().join("file")).unwrap())
    };
    assert_eq!(import(Some("one")).await.unwrap(), "one");
    assert_eq!(import(Some("two")).await.unwrap(), "two");
    assert_eq!(import(Some("both")).await.unwrap(), "native");
    for (tag, says) in [
        (None, "several images; give a tag of: one, two, both, foreign"),
        (Some("three"), "no image has the tag \"three\"; there are: one, two"),
        (Some("foreign"), "the image is for linux/"),
    ] {
        let error = import(tag).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Image, Some("read_image")));
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn names_move_and_removals_keep_what_others_need() {
    let place = Place::new().await;
    let base = Layer::new().file("base", 0o644, "base");
    let one = Image::new([base.clone()]).layout(&place.make_dir("one"), "one");
    let two = Image::new([base, Layer::new().file("top", 0o644, "top")]).layout(&place.make_dir("two"), "two");
    let first = place.store.import(&one, None, Some("a")).await.unwrap();
    place.store.import(&one, None, Some("b")).await.unwrap();
    let second = place.store.import(&two, None, Some("b")).await.unwrap();
    let names = async || {
        let images = place.store.images().await.unwrap();
        images.into_iter().map(|image| (image.digest, image.names)).collect::<BTreeMap<_, _>>()
    };
    let both = BTreeMap::from([(first.digest, vec!["a".to_owned()]), (second.digest, vec!["b".to_owned()])]);
    assert_eq!(names().await, both);
    assert_eq!(place.store.remove("a").await.unwrap().in_use, 0);
    assert_eq!((place.parts("trees").len(), place.parts("layers").len()), (1, 2));
    assert_eq!(place.store.remove("a").await.unwrap_err().step(), Some("find_image"));
    let digits = &second.digest.to_string()["sha256:".len()..][..12];
    place.store.remove(digits).await.unwrap();
    assert_eq!((names().await.len(), place.parts("trees").len(), place.parts("layers").len()), (0, 0, 0));
}

#[tokio::test]
async fn a_store_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = Store::open(dir.path()).await.unwrap_err();
    assert_eq!((error.kind(), error.step(), error.path()), (ErrorKind::Image, Some("open_store"), Some(dir.path())));
    assert!(error.to_string().contains("no other may write to it"), "{error}");
}
