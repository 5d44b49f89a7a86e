//! Overlay mounts: a program changes a prepared tree, and a reset restores it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cellblock::{Container, ErrorKind, Mount, container::OpenFile, mount::Tmpfs};

use crate::baseline::overlays_delete_directories;
use crate::common::{builder, is_root, open_dir, says, sh};

/// A prepared tree with a directory, files and a link.
fn prepared() -> tempfile::TempDir {
    let dir = open_dir();
    fs::create_dir_all(dir.path().join("src/deep")).unwrap();
    fs::write(dir.path().join("src/main.c"), "int main;").unwrap();
    fs::write(dir.path().join("src/deep/file"), "deep").unwrap();
    fs::write(dir.path().join("private"), "private").unwrap();
    fs::set_permissions(dir.path().join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("src/main.c", dir.path().join("link")).unwrap();
    dir
}

async fn over(lowers: &[&Path], target: &str) -> Container {
    builder().mount(Mount::overlay(lowers.iter().copied(), target, Tmpfs::new())).build().await.unwrap()
}

#[tokio::test]
async fn a_program_may_change_a_prepared_tree_and_a_reset_restores_it() {
    if !overlays_delete_directories().await {
        return;
    }
    let tree = prepared();
    let container = over(&[tree.path()], "/w").await;
    let look = "cat src/main.c src/deep/file private link; ls";
    let before = says(&container, &sh(look)).await;
    assert_eq!(before, "int main;deepprivateint main;link\nprivate\nsrc");
    let change = "echo changed >src/main.c; rm -r src/deep private; mkdir src/deep; touch src/deep/new; mv src moved; \
                  chmod 777 moved; ls moved/deep; cat moved/main.c";
    for _ in 0..3 {
        assert_eq!(says(&container, &sh(change)).await, "new\nchanged");
        container.write("moved/by-the-host", "x").await.unwrap();
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh(look)).await, before);
    }
    assert_eq!(fs::read(tree.path().join("src/main.c")).unwrap(), b"int main;", "the host's tree is unchanged");
    assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn the_first_directory_of_an_overlay_is_the_topmost() {
    let (top, bottom) = (open_dir(), open_dir());
    fs::write(top.path().join("both"), "top").unwrap();
    fs::write(bottom.path().join("both"), "bottom").unwrap();
    fs::write(bottom.path().join("below"), "bottom").unwrap();
    let container = over(&[top.path(), bottom.path()], "/data").await;
    assert_eq!(says(&container, &sh("cat /data/both /data/below")).await, "topbottom");
}

#[tokio::test]
async fn writes_to_an_overlay_are_limited() {
    let tree = prepared();
    let upper = Tmpfs::new().bytes(1 << 20).inodes(40);
    let container = builder().mount(Mount::overlay([tree.path()], "/w", upper)).build().await.unwrap();
    let fill = sh(
        "head -c 2M /dev/zero >big 2>/dev/null; stat -c %s big; for i in $(seq 50); do mkdir d$i; done 2>/dev/null; ls | wc -l",
    );
    for _ in 0..2 {
        let said = says(&container, &fill).await;
        let (size, names) = said.split_once('\n').unwrap();
        assert!(size.parse::<u64>().unwrap() < (1 << 20) + 1 && names.parse::<u32>().unwrap() < 45, "{said}");
        let error = container.write("more", vec![0; 2 << 20]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        container.reset().await.unwrap();
    }
}

#[tokio::test]
async fn mounts_within_an_overlay_survive_a_reset() {
    let (tree, data) = (prepared(), open_dir());
    fs::write(data.path().join("file"), "data").unwrap();
    let builder = builder()
        .mount(Mount::overlay([tree.path()], "/w", Tmpfs::new()))
        .mount(Mount::bind(data.path(), "/w/src/data"))
        .mount(Mount::tmpfs("/w/scratch", Tmpfs::new()));
    let container = builder.build().await.unwrap();
    for _ in 0..2 {
        let script = sh(
            "cat src/data/file src/main.c; touch scratch/x src/y; touch src/data/z 2>/dev/null || echo; ls scratch src",
        );
        assert_eq!(says(&container, &script).await, "dataint main;\nscratch:\nx\n\nsrc:\ndata\ndeep\nmain.c\ny");
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh("ls scratch")).await, "");
    }
}

#[tokio::test]
async fn only_the_owner_of_the_tree_is_mapped_to_the_program() {
    if !is_root() {
        crate::common::skip("only root can make files of others");
        return;
    }
    let tree = prepared();
    std::os::unix::fs::chown(tree.path().join("private"), Some(12345), Some(12345)).unwrap();
    let container = over(&[tree.path()], "/w").await;
    assert_eq!(
        says(&container, &sh("stat -c %u private; cat private 2>/dev/null || echo refused")).await,
        "65534\nrefused"
    );
    assert_eq!(says(&container, &sh("stat -c '%u %g' . src/main.c; id -u")).await, "1000 1000\n1000 1000\n1000");
}

#[tokio::test]
async fn the_host_can_open_files_of_an_overlay() {
    let tree = prepared();
    let container = over(&[tree.path()], "/w").await;
    assert_eq!(container.read("src/main.c", 100).await.unwrap(), b"int main;");
    container.write("src/main.c", "mine").await.unwrap();
    assert_eq!(says(&container, &sh("echo s >>src/main.c; cat src/main.c")).await, "mines");
    let error = container.open([OpenFile::read("link")]).await.unwrap().pop().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

#[tokio::test]
async fn an_invalid_overlay_is_an_error() {
    let tree = prepared();
    let build = async |mount| builder().mount(mount).build().await.unwrap_err();
    let error = build(Mount::overlay(["/not/there"], "/w", Tmpfs::new())).await;
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("open_bind_source")));
    let error = build(Mount::overlay([tree.path().join("private")], "/w", Tmpfs::new())).await;
    assert_eq!(error.kind(), ErrorKind::Build, "{error}");
    assert_eq!(error.path(), Some(Path::new("/w")));
    for mount in [
        Mount::overlay([tree.path()], "/tmp/within", Tmpfs::new()),
        Mount::overlay(None::<&str>, "/w", Tmpfs::new()),
        Mount::overlay([tree.path(); 65], "/w", Tmpfs::new()),
    ] {
        assert_eq!(build(mount).await.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_overlay_takes_sixty_four_directories() {
    let trees: Vec<_> = (0..64).map(|_| open_dir()).collect();
    for (number, tree) in trees.iter().enumerate() {
        fs::write(tree.path().join(number.to_string()), "").unwrap();
    }
    let lowers: Vec<_> = trees.iter().map(tempfile::TempDir::path).collect();
    let container = over(&lowers, "/data").await;
    assert_eq!(says(&container, &sh("ls /data | wc -l")).await, "64");
}
