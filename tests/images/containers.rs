//! Containers with an image for their root.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cellblock::image::Store;
use cellblock::{Command, Container, ErrorKind, Root};
use serde_json::json;

use crate::common::{LeakSnapshot, alone, builder, has_own_ids, lacks, says};
use crate::make::{Compression, Image, Layer};
use crate::store::Place;

/// The applets of busybox that the tests use.
const APPLETS: [&str; 8] = ["sh", "cat", "ls", "id", "env", "touch", "pwd", "rm"];

/// A layer with busybox, which Debian has as one static executable.
fn busybox() -> Option<Layer> {
    let Ok(busybox) = fs::read("/bin/busybox") else {
        lacks("busybox (Debian's busybox-static)");
        return None;
    };
    let layer = Layer::new().compression(Compression::Zstd).dir("bin", 0o755).file("bin/busybox", 0o755, busybox);
    Some(APPLETS.iter().fold(layer, |layer, applet| layer.symlink(&format!("bin/{applet}"), "busybox")))
}

/// An image of busybox, and of a layer that hides a part of it.
fn image() -> Option<Image> {
    let base = busybox()?
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nann:x:1234:77::/home/ann:/bin/sh\n")
        .file("etc/removed", 0o644, "removed")
        .dir("srv", 0o755)
        .file("srv/old", 0o644, "old");
    let top = Layer::new()
        .file("etc/.wh.removed", 0o644, "")
        .file("srv/.wh..wh..opq", 0o644, "")
        .file("srv/new", 0o644, "new")
        .dir("home/ann", 0o700);
    let config = json!({
        "Env": ["PATH=/bin", "GREETING=hello there"],
        "WorkingDir": "/home/ann",
        "User": "ann",
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["echo $GREETING from $(pwd)"],
    });
    Some(Image::new([base, top]).config(config))
}

/// A layout with the image, and a root that uses it.
async fn place_and_root() -> Option<(Place, Root)> {
    let image = image()?;
    let place = Place::new().await;
    let layout = image.layout(&place.make_dir("layout"), "1.0");
    let root = Root::oci(layout, Some("1.0")).store(place.store.clone());
    Some((place, root))
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_container_sees_the_image_and_nothing_of_the_host() {
    alone(async |before: LeakSnapshot| {
        let Some((place, root)) = place_and_root().await else { return };
        let container = builder().root(root).build().await.unwrap();
        assert_eq!(says(&container, &container.root_command().unwrap()).await, "hello there from /home/ann");
        assert_eq!(says(&container, &sh("ls / && ls /bin/sh && ls -A /srv /etc")).await, {
            let top = "bin\ndev\netc\nhome\nproc\nsrv\ntmp\nw\n/bin/sh\n";
            format!("{top}/etc:\nhosts\npasswd\nresolv.conf\n\n/srv:\nnew")
        });
        assert_eq!(says(&container, &sh("env")).await.lines().filter(|line| line.starts_with("GREETING")).count(), 1);
        if has_own_ids() {
            assert_eq!(says(&container, &sh("id -u; id -g")).await, "1234\n77");
        }
        for path in ["/usr/bin/python3", "/lib/x86_64-linux-gnu", "/etc/removed", "/srv/old"] {
            assert!(!container.output(Command::new("ls").arg(path)).await.unwrap().report.status.success(), "{path}");
        }
        container.destroy().await;
        drop(place);
        before.assert_restored().await;
    });
}

#[test]
fn programs_may_change_the_image_and_a_reset_restores_it() {
    alone(async |_| {
        let Some((place, root)) = place_and_root().await else { return };
        let container = builder().root(root).build().await.unwrap();
        let seen = "cat /srv/new; ls /home/ann /bin | cat";
        let first = says(&container, &sh(seen)).await;
        let change = "echo changed >/srv/new; rm -r /bin/busybox /home; touch /bin/more 2>/dev/null; cat </srv/new";
        let output = container.output(&sh(change)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "changed\n");
        assert_eq!(fs::read_to_string(place.root().join("srv/new")).unwrap(), "new");
        assert!(container.output(&Command::new("ls")).await.is_err(), "busybox is gone");
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh(seen)).await, first);
        container.destroy().await;
    });
}

#[test]
fn the_text_of_an_image_may_be_a_path_a_tag_or_a_name() {
    alone(async |_| {
        let Some((place, root)) = place_and_root().await else { return };
        let layout = place.path("layout");
        let packed = crate::make::archive(&layout, &place.path("packed.tar"));
        place.store.import(&layout, None, Some("box")).await.unwrap();
        let tree = place.root();
        let with_tag = |path: &PathBuf| format!("{}:1.0", path.display());
        let texts = [
            layout.display().to_string(),
            with_tag(&layout),
            with_tag(&packed),
            "box".into(),
            tree.display().to_string(),
        ];
        for text in texts {
            let root = Root::image(&text).store(place.store.clone());
            let container = builder().root(root).build().await.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(says(&container, Command::new("/bin/cat").arg("/srv/new")).await, "new", "{text}");
            container.destroy().await;
        }
        for (text, says) in [
            ("no-such-image", "no image of that name"),
            (&format!("{}:2.0", layout.display()), "no image has the tag \"2.0\"; there are: 1.0"),
        ] {
            let error = builder().root(Root::image(text).store(place.store.clone())).build().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            assert!(error.to_string().contains(says), "{error}");
        }
        drop(root);
    });
}

#[test]
fn a_removal_leaves_the_tree_of_a_living_container() {
    alone(async |_| {
        let Some((place, root)) = place_and_root().await else { return };
        let container = builder().root(root.clone()).build().await.unwrap();
        let second = Store::open(place.path("store")).await.unwrap();
        let image = second.images().await.unwrap().remove(0).digest.to_string();
        assert_eq!(second.remove(&image).await.unwrap().in_use, 1);
        assert_eq!((place.parts("trees").len(), place.parts("layers").len()), (1, 0));
        // The container's lock keeps the tree without the root's.
        drop(root);
        assert_eq!(second.prune().await.unwrap().in_use, 1);
        assert_eq!(says(&container, &sh("cat /srv/new")).await, "new");
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh("cat /srv/new")).await, "new");
        container.destroy().await;
        assert_eq!(second.prune().await.unwrap().in_use, 0);
        assert_eq!(place.parts("trees"), Vec::<PathBuf>::new());
    });
}

#[test]
fn an_image_that_was_removed_comes_back() {
    alone(async |_| {
        let Some((place, root)) = place_and_root().await else { return };
        builder().root(root.clone()).build().await.unwrap().destroy().await;
        let image = place.store.images().await.unwrap().remove(0).digest.to_string();
        // The root has the tree locked, and builds go on.
        assert_eq!(place.store.remove(&image).await.unwrap().in_use, 1);
        builder().root(root.clone()).build().await.unwrap().destroy().await;
        drop(root);
        place.store.prune().await.unwrap();
        assert!(place.parts("trees").is_empty());
        let root = Root::oci(place.path("layout"), None).store(place.store.clone());
        let container = builder().root(root).build().await.unwrap();
        assert_eq!(says(&container, &sh("cat /srv/new")).await, "new");
        container.destroy().await;
    });
}

#[test]
fn builds_at_once_unpack_once() {
    alone(async |_| {
        let Some((place, _)) = place_and_root().await else { return };
        let layout = place.path("layout");
        // Each root is a request of its own, as in processes of their own.
        let builds = (0..6).map(|_| {
            let root = Root::oci(&layout, None).store(place.store.clone());
            async move { builder().root(root).build().await.unwrap() }
        });
        let containers: Vec<Container> = futures::future::join_all(builds).await;
        for container in containers {
            assert_eq!(says(&container, &sh("cat /srv/new")).await, "new");
            container.destroy().await;
        }
        assert_eq!((place.parts("trees").len(), place.parts("layers").len()), (1, 2));
        assert!(place.parts("staging").is_empty());
    });
}

#[test]
fn dropping_a_build_ends_the_unpacking() {
    let place_and_layout = async || {
        let place = Place::new().await;
        let layer = (0..300).fold(Layer::new(), |layer, n| layer.file(&n.to_string(), 0o644, vec![0; 1 << 20]));
        let layout = Image::new([layer.compression(Compression::None)]).layout(&place.make_dir("layout"), "big");
        (place, layout)
    };
    alone(async |_| {
        let (place, layout) = place_and_layout().await;
        let root = Root::oci(layout, None).store(place.store.clone());
        let builder = builder().root(root);
        let mut build = Box::pin(builder.build());
        while place.parts("staging").is_empty() {
            assert!(futures::poll!(&mut build).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(build);
        let end = Instant::now() + Duration::from_secs(20);
        while !place.parts("staging").is_empty() {
            assert!(Instant::now() < end, "the unpacking goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(place.parts("layers").is_empty() && place.parts("trees").is_empty());
    });
}

#[test]
fn an_unknown_user_and_a_missing_store_are_errors() {
    alone(async |_| {
        let Some(image) = image() else { return };
        let place = Place::new().await;
        let image = image.config(json!({"User": "nobody-here"}));
        let layout = image.layout(&place.make_dir("layout"), "latest");
        let root = Root::oci(&layout, None).store(place.store.clone());
        let error = builder().root(root).build().await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Image, Some("read_image")));
        assert!(error.to_string().contains("the image has no user \"nobody-here\""), "{error}");
    });
}

#[test]
fn a_hostile_configuration_is_refused_or_harmless() {
    alone(async |_| {
        let Some(image) = image() else { return };
        let build = async |config: serde_json::Value| {
            let place = Place::new().await;
            let layout = image.clone().config(config).layout(&place.make_dir("layout"), "latest");
            let root = Root::oci(&layout, None).store(place.store.clone());
            (builder().root(root).build().await, place)
        };
        for config in [
            json!({"Env": ["A=b\0c"]}),
            json!({"Env": ["=b"]}),
            json!({"WorkingDir": "/a\0b"}),
            json!({"Cmd": ["a\0b"]}),
            json!({"User": "4294967295"}),
            json!({"User": "-1"}),
        ] {
            let error = build(config.clone()).await.0.unwrap_err();
            assert_eq!((error.kind(), error.step()), (ErrorKind::Image, Some("read_image")), "{config}: {error}");
        }
        for (dir, seen) in
            [("relative", "/relative"), ("/new/dir", "/new/dir"), ("/../../etc", "/etc"), ("/srv/", "/srv")]
        {
            let (container, _place) = build(json!({"Env": ["PATH=/bin"], "WorkingDir": dir})).await;
            let container = container.unwrap_or_else(|error| panic!("{dir}: {error}"));
            assert_eq!(says(&container, &sh("pwd; ls /bin/busybox")).await, format!("{seen}\n/bin/busybox"));
            container.destroy().await;
        }
    });
}
