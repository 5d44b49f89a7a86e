//! Images that other tools write.

use std::fs;
use std::path::Path;
use std::process::Command as HostCommand;

use cellblock::{Command, Root};
use serde_json::json;

use crate::common::{alone, builder, lacks, says, skip};
use crate::make::{Compression, Image, Layer};
use crate::store::Place;

/// Whether skopeo did it. `None` if this machine has no skopeo.
fn skopeo(args: &[&str]) -> Option<()> {
    // Debian's package has no policy.
    let output = HostCommand::new("skopeo").args(["--insecure-policy", "copy"]).args(args).output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            lacks("skopeo");
            None
        }
        output => {
            let output = output.unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
    }
}

#[tokio::test]
async fn what_skopeo_writes_has_the_same_tree() {
    let place = Place::new().await;
    let layers = [
        Layer::new().file("kept", 0o644, "kept").file("removed", 0o644, "x"),
        Layer::new()
            .file(".wh.removed", 0o644, "")
            .long_file(&["d"; 60].join("/"), b"deep")
            .compression(Compression::Zstd),
    ];
    let layers = layers.map(|layer| layer.file("name", 0o644, "text"));
    let image = Image::new(layers).config(json!({"Env": ["A=1"], "Cmd": ["/kept"]}));
    let layout = image.layout(&place.make_dir("layout"), "1.0");
    // skopeo cannot turn zstd layers into those of Docker.
    let layers = image.layers.iter().map(|layer| layer.clone().compression(Compression::Gzip)).collect();
    let with_gzip = Image { layers, ..image.clone() }.layout(&place.make_dir("with-gzip"), "1.0");
    let path = |name: &str| place.path(name).display().to_string();
    let copies = [
        (&layout, "dir", format!("oci:{}:2.0", path("dir"))),
        (&layout, "oci.tar", format!("oci-archive:{}:2.0", path("oci.tar"))),
        (&with_gzip, "docker.tar", format!("docker-archive:{}:example/name:2.0", path("docker.tar"))),
    ];
    for (from, name, to) in &copies {
        if skopeo(&[&format!("oci:{}:1.0", from.display()), to]).is_none() {
            return;
        }
        let imported = place.store.import(place.path(name), Some("2.0"), None).await;
        let imported = imported.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(imported.config.command, ["/kept"], "{name}");
    }
    assert_eq!(fs::read(place.root().join("kept")).unwrap(), b"kept");
    assert!(!place.root().join("removed").exists());
    // And the image as it was is the same.
    place.store.import(&layout, None, None).await.unwrap();
    assert_eq!(place.parts("trees").len(), 1);
}

/// Opt-in, because it needs a tree: `CELLBLOCK_TEST_DEBIAN` names one that debootstrap has made.
#[test]
fn a_debian_image_runs_its_own_programs() {
    alone(async |_| {
        let Some(debian) = std::env::var_os("CELLBLOCK_TEST_DEBIAN") else {
            skip("CELLBLOCK_TEST_DEBIAN names no Debian root");
            return;
        };
        let packed =
            HostCommand::new("tar").args(["--create", "--file=-", "--directory"]).arg(&debian).arg(".").output();
        let packed = packed.unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let mut layer = Layer::new();
        layer.tar = packed.stdout;
        let place = Place::new().await;
        let image = Image::new([layer.compression(Compression::Gzip)]).config(json!({"Cmd": ["/bin/bash"]}));
        let layout = image.layout(&place.make_dir("layout"), "debian");
        let root = Root::oci(layout, Some("debian")).store(place.store.clone());
        let container = builder().root(root).build().await.unwrap();
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let release = fs::read_to_string(Path::new(&debian).join("etc/debian_version")).unwrap();
        let seen = says(
            &container,
            &sh("cat /etc/debian_version; perl -e 'print 6 * 7'; dpkg --print-architecture >/dev/null"),
        )
        .await;
        assert_eq!(seen, format!("{release}42"));
        says(&container, &sh("rm -r /usr/share /var/lib; mkdir /var/lib; echo x >/etc/debian_version")).await;
        container.reset().await.unwrap();
        assert_eq!(
            says(&container, &sh("cat /etc/debian_version; ls /usr/share/doc >/dev/null")).await,
            release.trim()
        );
        container.destroy().await;
    });
}
