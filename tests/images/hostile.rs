//! Archives that lie, attack or are broken. Each error names what is wrong, and the store keeps
//! nothing of them. The controls are the same archives without the fault.

use std::fs;

use cellblock::ErrorKind;
use cellblock::image::UnpackCaps;
use tar::{EntryType, Header};

use crate::make::{Compression, Image, Layer};
use crate::store::Place;

/// Asserts that an image is refused with these words, and that nothing of it is in the store.
async fn refused(place: &Place, image: &Image, path: &str, says: &str) {
    let error = place.import(image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Image, "{error}");
    assert!(error.to_string().contains(says), "{says:?}: {error}");
    assert!(error.to_string().contains(path), "{path:?}: {error}");
    assert!(!error.is_retryable(), "{error}");
    assert_eq!((place.parts("trees"), place.parts("staging")), (vec![], vec![]), "{says}");
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1, "only the store: {says}");
    assert!(place.store.images().await.unwrap().is_empty());
}

#[tokio::test]
async fn no_entry_leaves_the_tree() {
    let place = Place::new().await;
    let outside = place.path("outside");
    let target = outside.to_str().unwrap();
    let cases = [
        (Layer::new().file("../../../outside", 0o644, "x"), "../../../outside", "its path has a `..`"),
        (Layer::new().file("a/../../outside", 0o644, "x"), "a/../../outside", "its path has a `..`"),
        (Layer::new().dir("..", 0o777), "..", "its path has a `..`"),
        (Layer::new().file("../.wh.outside", 0o644, ""), "../.wh.outside", "its path has a `..`"),
        (Layer::new().file(".wh...", 0o644, ""), ".wh...", "a whiteout without a name"),
        (Layer::new().file("a/.wh.", 0o644, ""), "a/.wh.", "a whiteout without a name"),
        (
            Layer::new().symlink("link", "../../..").file("link/outside", 0o644, "x"),
            "link/outside",
            "over a symbolic link",
        ),
        (Layer::new().symlink("link", "/tmp").file("link/outside", 0o644, "x"), "link/outside", "over a symbolic link"),
        (Layer::new().symlink("link", "/tmp").dir("link/outside", 0o755), "link/outside", "over a symbolic link"),
        (Layer::new().symlink("a", ".").file("a/a/a/x", 0o644, "x"), "a/a/a/x", "over a symbolic link"),
        (Layer::new().file("f", 0o644, "").file("f/x", 0o644, "x"), "f/x", "over a file that is no directory"),
        (Layer::new().hard_link("link", "/etc/passwd"), "link", "which the layer does not have"),
        (Layer::new().hard_link("link", "../../../../etc/passwd"), "link", "its path has a `..`"),
        (Layer::new().symlink("s", "/etc").hard_link("link", "s/passwd"), "link", "over a symbolic link"),
        (Layer::new().hard_link("link", "link"), "link", "hard link to itself"),
        (Layer::new().hard_link("link", "/"), "link", "hard link to itself or to a directory"),
        (Layer::new().file("", 0o644, "x"), "", "it has no name"),
        (Layer::new().entry(EntryType::new(b'Z'), b"odd", "", 0o644, b""), "odd", "the unknown type 'Z'"),
        (Layer::new().pax_file(&[("path", b"a\0b")], b"x"), "a", "its path has a NUL byte"),
    ];
    for (layer, path, says) in cases {
        refused(&place, &Image::new([layer]), path, says).await;
    }
    assert!(!outside.exists());

    // A hard link to a link writes nothing through it, nor does a second entry of that name.
    fs::write(&outside, "untouched").unwrap();
    let layer = Layer::new().symlink("s", target).hard_link("link", "s").file("link", 0o644, "x").file("s", 0o644, "y");
    // An absolute path is one in the image.
    let layer = layer.file(&target[..60.min(target.len())], 0o644, "inside");
    place.import(&Image::new([layer])).await.unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(place.root().join("s")).unwrap(), "y");
    assert_eq!(fs::read_to_string(place.root().join(&target[1..60.min(target.len())])).unwrap(), "inside");
}

#[tokio::test]
async fn upper_layers_do_not_reach_out_through_links_of_lower_ones() {
    let place = Place::new().await;
    let outside = place.make_dir("outside");
    fs::write(outside.join("file"), "untouched").unwrap();
    let lower = Layer::new().symlink("link", outside.to_str().unwrap()).dir("dir", 0o755);
    let upper =
        Layer::new().file("link/.wh.file", 0o644, "").file("link/.wh..wh..opq", 0o644, "").file("dir/file", 0o644, "x");
    place.import(&Image::new([lower.clone(), upper])).await.unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    let upper = Layer::new().file("link/file", 0o644, "x");
    place.import(&Image::new([lower, upper])).await.unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
}

#[tokio::test]
async fn caps_bound_what_an_image_takes() {
    let place = Place::new().await;
    let image = |layer: Layer| Image::new([layer]);
    let zeros = |bytes: usize| image(Layer::new().file("zeros", 0o644, vec![0; bytes]));
    let many = |count: usize| {
        let files = (0..count).fold(Layer::new(), |layer, n| layer.file(&n.to_string(), 0o644, ""));
        image(files)
    };
    let deep = |depth: usize| image(Layer::new().long_file(&vec!["d"; depth].join("/"), b""));
    let long = |length: usize| image(Layer::new().long_file(&vec!["d".repeat(99); length / 100].join("/"), b""));
    let layers = |count: usize| Image::new(vec![Layer::new().file("f", 0o644, ""); count]);
    let caps = UnpackCaps::new().bytes(100_000).entries(20).path_length(400).path_depth(10).layers(5);
    let capped = Place { store: place.store.clone().caps(caps), ..Place::new().await };
    let at_cap = Place { store: capped.store.clone(), dir: place.dir };

    refused(&at_cap, &zeros(100_000), "zeros", "the cap of 100000 bytes").await;
    refused(&at_cap, &many(21), "20", "the cap of 20 entries").await;
    refused(&at_cap, &deep(11), "d/d", "the cap of 10 names in a path").await;
    refused(&at_cap, &long(500), "dddd", "the cap of 400 bytes in a path").await;
    refused(&at_cap, &layers(6), "", "the cap of 5 layers").await;
    let two = Image::new([0, 1].map(|n| Layer::new().file("zeros", 0o644, vec![n; 50_000])));
    let error = at_cap.import(&two).await.unwrap_err();
    assert!(error.to_string().contains("the cap of 100000 bytes"), "the layers together: {error}");

    for fitting in [zeros(90_000), many(20), deep(10), long(400), layers(5)] {
        at_cap.import(&fitting).await.unwrap();
    }
}

#[tokio::test]
async fn a_bomb_is_cut_off_early() {
    let place = Place::new().await;
    let caps = UnpackCaps::new().bytes(1 << 20);
    let place = Place { store: place.store.clone().caps(caps), dir: place.dir };
    // 8 MiB in 8 KiB, as content, as a name, and as attributes.
    let zeros = vec![b'0'; 8 << 20];
    let sized = |kind: EntryType, name: &str| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(zeros.len() as u64);
        header.set_mode(0o644);
        Layer::new().raw(header, &zeros)
    };
    refused(&place, &Image::new([sized(EntryType::Regular, "file")]), "file", "the cap of 1048576 bytes").await;
    refused(&place, &Image::new([sized(EntryType::Directory, "dir")]), "dir", "the cap of 1048576 bytes").await;
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let image = Image::new([sized(kind, "name").file("f", 0o644, "")]);
        refused(&place, &image, "", "the cap of 1048576 bytes in the headers of an entry").await;
    }
}

#[tokio::test]
async fn a_sparse_file_counts_with_its_holes() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.args(["--create", "--sparse", "--format=gnu", "--file=-", "--directory"]);
    let made = tar.arg(dir.path()).arg("sparse").output().unwrap();
    assert!(made.status.success() && made.stdout.len() < 100_000, "{}", made.stdout.len());
    let mut layer = Layer::new();
    layer.tar = made.stdout;
    refused(&Place::new().await, &Image::new([layer]), "sparse", "the cap of 8589934592 bytes").await;
}

#[tokio::test]
async fn broken_archives_are_refused() {
    let place = Place::new().await;
    let good = || Layer::new().file("file", 0o644, "x".repeat(5000));
    let header = |change: fn(&mut Header)| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..4].copy_from_slice(b"file");
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_mode(0o644);
        change(&mut header);
        Image::new([good().raw(header, b"")])
    };
    refused(&place, &header(|it| it.set_size(1 << 60)), "", "unexpected EOF").await;
    refused(&place, &header(|it| it.as_old_mut().size = [0xff; 12]), "", "the image cannot be used").await;
    refused(&place, &header(|it| it.as_old_mut().size = *b"not a number"), "", "the image cannot be used").await;

    let mut cut = good();
    cut.tar.truncate(2000);
    refused(&place, &Image::new([cut.compression(Compression::None)]), "", "the image cannot be used").await;
    let mut checksum = good();
    checksum.tar[0] ^= 1;
    refused(&place, &Image::new([checksum]), "", "checksum").await;
    place.import(&Image::new([good()])).await.unwrap();
}

#[tokio::test]
async fn blobs_must_have_their_digests_and_sizes() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let image = Image::new([Layer::new().compression(compression).file("file", 0o644, "x".repeat(50_000))]);
        type Fault = fn(&mut Vec<u8>);
        let faults: [(&str, Fault); 3] = [
            ("truncated", |blob| blob.truncate(blob.len() / 2)),
            ("longer", |blob| blob.extend([0; 100])),
            ("changed", |blob| {
                let middle = blob.len() / 2;
                blob[middle] ^= 1;
            }),
        ];
        for (fault, change) in faults {
            let place = Place::new().await;
            let layout = place.make_dir("layout");
            image.layout(&layout, "latest");
            // The control.
            let control = Place::new().await;
            control.store.import(&layout, None, None).await.unwrap();
            for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
                let blob = blob.unwrap().path();
                let whole = fs::read(&blob).unwrap();
                let mut bytes = whole.clone();
                change(&mut bytes);
                fs::write(&blob, bytes).unwrap();
                let error = place.store.import(&layout, None, None).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Image, "{fault}: {error}");
                assert_eq!((place.parts("trees"), place.parts("layers")), (vec![], vec![]), "{fault}");
                fs::write(&blob, whole).unwrap();
            }
            place.store.import(&layout, None, None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_layer_with_the_digest_of_another_is_refused() {
    let place = Place::new().await;
    let layout = place.make_dir("layout");
    let (claimed, real) = (Layer::new().file("f", 0o644, "claimed"), Layer::new().file("f", 0o644, "real"));
    // The manifest has the real layer's blob; the configuration has the digest of the other.
    let real = Image::new([real]).docker_archive(&place.path("real.tar"), "x:1");
    let claimed = Image::new([claimed]).docker_archive(&place.path("claimed.tar"), "x:1");
    let unpack = |archive: &std::path::Path, into: &std::path::Path| {
        fs::create_dir_all(into).unwrap();
        tar::Archive::new(fs::File::open(archive).unwrap()).unpack(into).unwrap();
    };
    unpack(&claimed, &layout);
    let other = place.path("other");
    unpack(&real, &other);
    place.store.import(&layout, None, None).await.unwrap();
    place.store.remove("x:1").await.unwrap();
    fs::copy(other.join("0.tar"), layout.join("0.tar")).unwrap();
    let error = place.store.import(&layout, None, None).await.unwrap_err();
    assert!(error.to_string().contains("the uncompressed layer 0/layer.tar has the digest sha256:"), "{error}");
    assert_eq!(place.parts("layers"), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    let place = Place::new().await;
    let write = |name: &str, bytes: &[u8]| {
        fs::write(place.path(name), bytes).unwrap();
        place.path(name)
    };
    let image = Image::new([Layer::new().file("f", 0o644, "f")]);
    let packed = image.docker_archive(&place.path("docker.tar"), "x:1");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &fs::read(&packed).unwrap()).unwrap();
    let cases = [
        (place.path("missing"), "No such file"),
        (place.make_dir("empty"), "neither an index.json nor a manifest.json"),
        (write("text", &[b'x'; 2000]), "no image archive"),
        (write("short", b"x"), "no image archive"),
        (write("compressed", &gzip.finish().unwrap()), "the archive is compressed as a whole"),
        ("/dev/null".into(), "it is no regular file"),
    ];
    for (path, says) in cases {
        let error = place.store.import(&path, None, None).await.unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Image, Some(&*path)), "{error}");
        assert!(error.to_string().contains(says), "{says:?}: {error}");
    }
    let fifo = place.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = place.store.import(&fifo, None, None).await.unwrap_err();
    assert!(error.to_string().contains("it is no regular file"), "{error}");
    place.store.import(&packed, None, None).await.unwrap();
}
