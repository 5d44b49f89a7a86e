//! Directories and trees inside a container: made, listed, described, renamed and removed.

use std::collections::BTreeSet;
use std::time::Duration;

use cellblock::container::FileType;
use cellblock::{Container, ErrorKind, Mount, Result, mount::Tmpfs};

use crate::common::{SECOND, builder, container, open_dir, python, says, sh};

fn errno<T: std::fmt::Debug>(result: Result<T>) -> i32 {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File, "{error}");
    error.raw_os_error().unwrap_or_else(|| panic!("{error}"))
}

async fn names(container: &Container, path: &str) -> Vec<(String, FileType)> {
    let mut names = Vec::new();
    let mut listing = container.read_dir(path).await.unwrap();
    while let Some(entry) = listing.next_entry().await.unwrap() {
        names.push((entry.file_name().to_str().unwrap().to_owned(), entry.file_type()));
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    names
}

/// A container with an overlay at /over, whose lower layer has `low/file`.
async fn with_overlay() -> (tempfile::TempDir, Container) {
    let lower = open_dir();
    std::fs::create_dir(lower.path().join("low")).unwrap();
    std::fs::write(lower.path().join("low/file"), "of the layer").unwrap();
    let container = builder().mount(Mount::overlay([lower.path()], "/over", Tmpfs::new())).build().await.unwrap();
    (lower, container)
}

#[tokio::test]
async fn directories_are_made_with_those_above_them_and_belong_to_the_program() {
    let container = container().await;
    container.create_dir_all("a/b/c").await.unwrap();
    container.create_dir_all("a/b/c").await.unwrap();
    container.create_dir_all("/tmp/x").await.unwrap();
    container.create_dir_all("/").await.unwrap();
    let script = "stat -c '%a' a a/b a/b/c /tmp/x; stat -c %u a a/b a/b/c | grep -vx $(id -u); touch a/b/c/mine";
    assert_eq!(says(&container, &sh(script)).await, "755\n755\n755\n755");
    says(&container, &sh("echo x > file; ln -s /tmp link; ln -s /w/a inner")).await;
    for (path, expected) in [
        ("file", libc::ENOTDIR),
        ("file/x", libc::ENOTDIR),
        ("link", libc::ENOTDIR),
        ("link/x", libc::ENOTDIR),
        ("inner/x", libc::ENOTDIR),
        ("a/../../x", libc::EINVAL),
        ("../x", libc::EINVAL),
        ("/usr/x", libc::EROFS),
    ] {
        assert_eq!(errno(container.create_dir_all(path).await), expected, "{path}");
    }
    assert_eq!(errno(container.create_dir_all("x/".repeat(2048)).await), libc::ENAMETOOLONG);
    let error = container.create_dir_all("file/x").await.unwrap_err();
    assert_eq!((error.step(), error.path().unwrap().to_str()), (Some("make_directory"), Some("file/x")));
    assert_eq!(says(&container, &sh("ls /tmp a")).await, "/tmp:\nx\n\na:\nb");
}

#[tokio::test]
async fn a_listing_has_every_name_with_its_type() {
    let container = container().await;
    assert_eq!(names(&container, ".").await, []);
    says(&container, &sh("mkdir dir; echo x > file; ln -s /etc/passwd link; mkfifo fifo")).await;
    says(&container, &python("import socket; socket.socket(socket.AF_UNIX).bind('socket')")).await;
    let expected = [
        ("dir", FileType::Directory),
        ("fifo", FileType::Fifo),
        ("file", FileType::File),
        ("link", FileType::Symlink),
        ("socket", FileType::Socket),
    ];
    assert_eq!(names(&container, "/w").await, expected.map(|(name, kind)| (name.to_owned(), kind)));
    says(&container, &sh("mkdir many; cd many; seq 5000 | xargs touch")).await;
    let many: BTreeSet<_> = names(&container, "many").await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(many.len(), 5000);
    for (path, expected) in
        [("file", libc::ENOTDIR), ("link", libc::ENOTDIR), ("none", libc::ENOENT), ("../..", libc::EXDEV)]
    {
        assert_eq!(errno(container.read_dir(path).await), expected, "{path}");
    }
}

#[tokio::test]
async fn a_dropped_listing_call_loses_no_name() {
    let container = container().await;
    says(&container, &sh("seq 500 | xargs touch")).await;
    let mut listing = container.read_dir(".").await.unwrap();
    let mut seen = BTreeSet::new();
    loop {
        match crate::common::polled(1, listing.next_entry()).await {
            None => {}
            Some(Ok(Some(entry))) => assert!(seen.insert(entry.file_name().to_owned())),
            Some(end) => break assert!(end.unwrap().is_none()),
        }
    }
    assert_eq!(seen.len(), 500);
}

#[tokio::test]
async fn metadata_describes_a_link_itself_and_opens_nothing() {
    let container = container().await;
    container.file("f").mode(0o640).write("12345").await.unwrap();
    says(&container, &sh("touch -d @1000000000.5 f; ln -s /etc/passwd link; mkfifo -m 600 fifo; mkdir -m 1777 d"))
        .await;
    let file = container.metadata("f").await.unwrap();
    assert_eq!((file.file_type(), file.len(), file.mode()), (FileType::File, 5, 0o640));
    let modified = file.modified().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(modified, Duration::from_millis(1_000_000_000_500));
    let ids = says(&container, &sh("id -u; id -g")).await;
    assert_eq!(format!("{}\n{}", file.uid(), file.gid()), ids);
    assert!(container.metadata("link").await.unwrap().is_symlink());
    assert_eq!(container.read_link("link").await.unwrap().to_str(), Some("/etc/passwd"));
    assert_eq!(container.metadata("fifo").await.unwrap().file_type(), FileType::Fifo);
    assert_eq!(container.metadata("/dev/null").await.unwrap().file_type(), FileType::Device);
    assert_eq!(container.metadata("d").await.unwrap().mode(), 0o1777);
    assert!(container.metadata(".").await.unwrap().is_dir());
    for (path, expected) in
        [("none", libc::ENOENT), ("link/x", libc::ELOOP), ("f/x", libc::ENOTDIR), ("..", libc::EXDEV)]
    {
        assert_eq!(errno(container.metadata(path).await), expected, "{path}");
    }
    assert_eq!(errno(container.read_link("f").await), libc::EINVAL);
    assert_eq!(errno(container.read_link("none").await), libc::ENOENT);
}

#[tokio::test]
async fn rename_replaces_files_and_stays_inside() {
    let container = container().await;
    says(&container, &sh("echo one > a; echo two > b; mkdir d full; touch full/x; ln -s /tmp out; ln -s a l")).await;
    container.rename("a", "b").await.unwrap();
    container.rename("b", "d/c").await.unwrap();
    container.rename("d", "/tmp/moved").await.unwrap_err();
    container.rename("l", "l2").await.unwrap();
    assert_eq!(says(&container, &sh("cat d/c; ls; readlink l2")).await, "one\nd\nfull\nl2\nout\na");
    for (from, to, expected) in [
        ("none", "x", libc::ENOENT),
        ("d", "full", libc::ENOTEMPTY),
        ("d", "out/x", libc::ENOTDIR),
        ("out/x", "y", libc::ENOTDIR),
        ("d/c", "../x", libc::EXDEV),
        ("d", "d/c/x", libc::ENOTDIR),
        ("..", "x", libc::EINVAL),
        ("d", "/usr/x", libc::EXDEV),
    ] {
        assert_eq!(errno(container.rename(from, to).await), expected, "{from} {to}");
    }
    assert_eq!(container.rename("none", "x").await.unwrap_err().step(), Some("rename"));
}

#[tokio::test]
async fn a_tree_is_removed_and_links_in_it_are_not_followed() {
    let container = container().await;
    let make = "mkdir -p t/a/b/c t/empty /tmp/kept; touch /tmp/kept/file t/f t/a/b/c/g; ln -s /tmp/kept t/a/link; \
                mkfifo t/fifo; cd t; seq 300 | xargs mkdir; seq -f %g/x 300 | xargs touch; mkdir -m 0 closed";
    says(&container, &sh(make)).await;
    container.remove_dir_all("t").await.unwrap();
    assert_eq!(says(&container, &sh("ls /w /tmp/kept")).await, "/tmp/kept:\nfile\n\n/w:");
    says(&container, &sh("ln -s /tmp/kept link; echo x > file")).await;
    for (path, expected) in [("link", libc::ENOTDIR), ("file", libc::ENOTDIR), ("none", libc::ENOENT)] {
        assert_eq!(errno(container.remove_dir_all(path).await), expected, "{path}");
    }
    let refused = errno(container.remove_dir_all("/w").await);
    assert!([libc::EBUSY, libc::EROFS].contains(&refused), "{refused}");
    assert_eq!(says(&container, &sh("ls /w /tmp/kept")).await, "/tmp/kept:\nfile\n\n/w:", "what was in it is gone");
}

#[tokio::test]
async fn a_deep_tree_is_removed_as_far_as_a_path_leads() {
    let container = container().await;
    let deep = "import os\nfor _ in range(DEPTH): os.mkdir('d'); os.chdir('d')";
    says(&container, &python(&deep.replace("DEPTH", "1500"))).await;
    container.remove_dir_all("d").await.unwrap();
    assert_eq!(says(&container, &sh("ls")).await, "");
    says(&container, &python(&deep.replace("DEPTH", "3000"))).await;
    assert_eq!(errno(container.remove_dir_all("d").await), libc::ENAMETOOLONG);
    container.reset().await.unwrap();
    assert_eq!(names(&container, ".").await, []);
}

#[tokio::test]
async fn trees_of_an_overlay_are_removed_and_come_back_with_a_reset() {
    let (_lower, container) = with_overlay().await;
    container.create_dir_all("/over/low/new").await.unwrap();
    container.write("/over/low/new/file", "x").await.unwrap();
    assert_eq!(names(&container, "/over/low").await.len(), 2);
    container.remove_dir_all("/over/low").await.unwrap();
    assert_eq!(names(&container, "/over").await, []);
    container.reset().await.unwrap();
    assert_eq!(container.read("/over/low/file", 100).await.unwrap(), b"of the layer");
    assert_eq!(errno(container.rename("/over/low", "/over/moved").await), libc::EXDEV);
}

/// A program that makes names in `t` as fast as it can, after `t` has some.
const FILLER: &str = "import os
os.makedirs('t', exist_ok=True)
n = 0
while True:
    try:
        os.makedirs('t/d%d/e' % n)
        open('t/f%d' % n, 'w').close()
    except OSError:
        pass
    n += 1
    if n == 100: os.write(1, b'.')";

async fn started(container: &Container, source: &str) -> cellblock::Process {
    use tokio::io::AsyncReadExt;
    let mut command = python(source);
    command.stdout(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    process.stdout.as_mut().unwrap().read_exact(&mut [0]).await.unwrap();
    process
}

#[tokio::test]
async fn a_removal_ends_while_a_program_fills_the_tree() {
    let container = builder().mounts(Mount::defaults(Tmpfs::new().inodes(20_000))).build().await.unwrap();
    let mut process = started(&container, FILLER).await;
    let removed = tokio::time::timeout(120 * SECOND, container.remove_dir_all("t")).await.expect("it ends");
    assert!(removed.as_ref().err().is_none_or(|error| error.raw_os_error() == Some(libc::ENOTEMPTY)), "{removed:?}");
    process.kill().await.unwrap();
    match container.remove_dir_all("t").await {
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT)),
        Ok(()) => assert_eq!(says(&container, &sh("ls")).await, ""),
    }
}

#[tokio::test]
async fn a_removal_goes_through_no_link_that_is_swapped_in() {
    let container = container().await;
    says(&container, &sh("mkdir /tmp/kept; cd /tmp/kept; seq 50 | xargs touch")).await;
    let swap = "import os
os.makedirs('t/d', exist_ok=True)
os.write(1, b'.')
while True:
    try:
        os.makedirs('t/d', exist_ok=True)
        os.rename('t/d', 't/e')
        os.symlink('/tmp/kept', 't/d')
        os.unlink('t/d')
        os.rename('t/e', 't/d')
    except OSError:
        pass";
    let mut process = started(&container, swap).await;
    for _ in 0..200 {
        if let Err(error) = container.remove_dir_all("t").await {
            let possible = [libc::ENOTEMPTY, libc::ENOENT, libc::ENOTDIR, libc::ELOOP];
            assert!(possible.contains(&error.raw_os_error().unwrap()), "{error}");
        }
    }
    process.kill().await.unwrap();
    assert_eq!(names(&container, "/tmp/kept").await.len(), 50);
}
