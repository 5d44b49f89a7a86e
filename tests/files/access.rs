//! The file commands of a container, and ping: open, read, write, delete, symlink.

use std::io::{Read, Write};

use cellblock::{Container, ErrorKind, Mount, Result, container::OpenFile, mount::Tmpfs};

use crate::common::{SECOND, builder, container, python, says, sh};

fn errno<T: std::fmt::Debug>(result: Result<T>) -> i32 {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File, "{error}");
    error.raw_os_error().unwrap()
}

async fn open_one(container: &Container, file: OpenFile) -> Result<std::fs::File> {
    container.open([file]).await.unwrap().pop().unwrap()
}

#[tokio::test]
async fn ping_is_answered_while_a_program_runs() {
    let container = container().await;
    container.ping(SECOND).await.unwrap();
    let mut process = container.spawn(&sh("sleep 60")).await.unwrap();
    container.ping(SECOND).await.unwrap();
    container.write("while", "running").await.unwrap();
    assert_eq!(container.read("while", 100).await.unwrap(), b"running");
    process.kill().await.unwrap();
}

#[tokio::test]
async fn open_returns_a_result_for_each_file() {
    let container = container().await;
    let mut results = container
        .open([
            OpenFile::write("new").mode(0o640),
            OpenFile::read("missing"),
            OpenFile::write("a/b/c").create_parents(),
            OpenFile::write("no/parent"),
            OpenFile::write("/usr/new"),
        ])
        .await
        .unwrap();
    let errnos: Vec<_> = results.iter().map(|it| it.as_ref().err().and_then(|error| error.raw_os_error())).collect();
    assert_eq!(errnos, [None, Some(libc::ENOENT), None, Some(libc::ENOENT), Some(libc::EROFS)]);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.step(), error.path().unwrap().to_str()), (Some("open"), Some("missing")));
    results[0].as_mut().unwrap().write_all(b"hello").unwrap();
    assert_eq!(says(&container, &sh("cat new; stat -c ' %a' new; stat -c '%a' a/b")).await, "hello 640\n755");
}

#[tokio::test]
async fn open_takes_hundreds_of_files_and_refuses_too_many() {
    let container = container().await;
    let files = |count| (0..count).map(|number| OpenFile::write(format!("f{number}")));
    let opened = container.open(files(600)).await.unwrap();
    assert_eq!(opened.iter().filter(|it| it.is_ok()).count(), 600);
    assert_eq!(container.open(files(4097)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(container.open([]).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_impossible_path_makes_no_directories() {
    let container = container().await;
    let file = |components| OpenFile::write("x/".repeat(components) + "f").create_parents();
    let errnos = async |components| open_one(&container, file(components)).await.err().map(|it| it.raw_os_error());
    assert_eq!(errnos(2048).await, Some(Some(libc::ENAMETOOLONG)));
    assert_eq!(says(&container, &sh("ls")).await, "");
    assert_eq!(errnos(2047).await, None, "the control");
}

#[tokio::test]
async fn open_honors_its_flags() {
    let container = container().await;
    container.write("f", "one").await.unwrap();
    let exclusive = OpenFile::write("f").flags(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL);
    assert_eq!(errno(open_one(&container, exclusive).await), libc::EEXIST);
    open_one(&container, OpenFile::append("f")).await.unwrap().write_all(b" two").unwrap();
    let mut both = open_one(&container, OpenFile::read("f").flags(libc::O_RDWR)).await.unwrap();
    let mut content = String::new();
    both.read_to_string(&mut content).unwrap();
    assert_eq!(content, "one two");
    for flags in [libc::O_PATH, libc::O_DIRECTORY, libc::O_TMPFILE, libc::O_WRONLY | libc::O_RDWR] {
        let error = container.open([OpenFile::read("f").flags(flags)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn files_of_the_library_belong_to_the_program() {
    let container = container().await;
    container.file("mine/too/file").mode(0o600).write("x").await.unwrap();
    let script = "id -u; stat -c %u /w /tmp mine mine/too mine/too/file; echo more >> mine/too/file; rm -r mine";
    let owners = says(&container, &sh(script)).await;
    let owners: Vec<_> = owners.lines().collect();
    assert_eq!(owners.len(), 6);
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
}

#[tokio::test]
async fn a_mode_is_independent_of_the_umask() {
    let container = container().await;
    container.file("open").mode(0o666).write("x").await.unwrap();
    container.file("closed").mode(0o000).write("x").await.unwrap();
    assert_eq!(says(&container, &sh("stat -c %a open closed; umask")).await, "666\n0\n0022");
}

#[tokio::test]
async fn only_regular_files_can_be_opened() {
    let container = container().await;
    let make = "mkdir dir; mkfifo fifo; ln -s /w/file link; ln -s /w dirlink; ln -s /proc/self/fd magic; echo x > file
        ln -s /dev/zero device; ln -s loop loop";
    says(&container, &sh(make)).await;
    says(&container, &python("import socket; socket.socket(socket.AF_UNIX).bind('socket')")).await;
    for (path, reading, writing) in [
        ("dir", libc::EISDIR, libc::EISDIR),
        // Never blocks: the init opens the FIFO without waiting for a writer, and refuses it then.
        ("fifo", libc::EINVAL, libc::ENXIO),
        ("socket", libc::ENXIO, libc::ENXIO),
        ("link", libc::ELOOP, libc::ELOOP),
        ("dirlink/file", libc::ELOOP, libc::ELOOP),
        ("magic/0", libc::ELOOP, libc::ELOOP),
        ("loop", libc::ELOOP, libc::ELOOP),
        ("device", libc::ELOOP, libc::ELOOP),
        ("/dev/null", libc::EINVAL, libc::EINVAL),
        ("/", libc::EISDIR, libc::EISDIR),
        ("", libc::EISDIR, libc::EISDIR),
        ("../etc", libc::EXDEV, libc::EXDEV),
        ("file/x", libc::ENOTDIR, libc::ENOTDIR),
    ] {
        assert_eq!(errno(container.read(path, 100).await), reading, "reading {path}");
        let write = OpenFile::write(path);
        assert_eq!(errno(open_one(&container, write).await), writing, "writing {path}");
    }
    assert_eq!(container.read("file", 100).await.unwrap(), b"x\n", "the control");
}

#[tokio::test]
async fn a_link_swapped_in_during_a_read_is_never_followed() {
    let container = container().await;
    let swap = "while :; do ln -sf /etc/ld.so.cache f; rm f; echo mine > f; rm f; done";
    let mut process = container.spawn(&sh(swap)).await.unwrap();
    for _ in 0..2000 {
        match container.read("f", 1 << 20).await {
            Ok(content) => assert!(content.is_empty() || content == b"mine\n"),
            Err(error) => assert!([libc::ENOENT, libc::ELOOP].contains(&error.raw_os_error().unwrap()), "{error}"),
        }
    }
    process.kill().await.unwrap();
}

#[tokio::test]
async fn write_and_read_take_whole_files() {
    let container = container().await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|it| it as u8).collect();
    container.write("deep/er/large", large.clone()).await.unwrap();
    assert_eq!(container.read("deep/er/large", 3_000_000).await.unwrap(), large);
    container.write("deep/er/large", "short").await.unwrap();
    assert_eq!(container.read("/w/deep/er/large", 5).await.unwrap(), b"short");
    assert_eq!(errno(container.read("deep/er/large", 4).await), libc::EFBIG);
    says(&container, &sh("truncate -s 7E sparse || truncate -s 60M sparse")).await;
    assert_eq!(errno(container.read("sparse", 1 << 20).await), libc::EFBIG);
}

#[tokio::test]
async fn a_full_tmpfs_is_an_error() {
    let small = Tmpfs::new().bytes(1 << 20).inodes(16);
    let container = builder().mounts(Mount::defaults(small)).build().await.unwrap();
    assert_eq!(errno(container.write("big", vec![1; 2 << 20]).await), libc::ENOSPC);
    container.delete("big").await.unwrap();
    let files = (0..32).map(|number| OpenFile::write(format!("f{number}")));
    let results = container.open(files).await.unwrap();
    let refused = results.into_iter().filter_map(Result::err).map(|error| error.raw_os_error().unwrap());
    assert!(refused.collect::<Vec<_>>().contains(&libc::ENOSPC));
    container.reset().await.unwrap();
    container.write("fits", "again").await.unwrap();
}

#[tokio::test]
async fn delete_removes_files_links_and_empty_directories() {
    let container = container().await;
    says(&container, &sh("echo x > f; mkdir -p d/e; ln -s f l; ln -s d dl; mkfifo p")).await;
    for path in ["l", "f", "p", "/w/d/e", "d"] {
        container.delete(path).await.unwrap();
    }
    says(&container, &sh("mkdir full; touch full/f")).await;
    for (path, expected) in [
        ("f", libc::ENOENT),
        ("full", libc::ENOTEMPTY),
        ("dl/x", libc::ENOTDIR),
        ("dl/y/x", libc::ELOOP),
        ("/usr/bin/env", libc::EROFS),
        ("..", libc::EINVAL),
        ("/", libc::EINVAL),
        ("../../x", libc::EXDEV),
    ] {
        assert_eq!(errno(container.delete(path).await), expected, "{path}");
    }
    let error = container.delete("full").await.unwrap_err();
    assert_eq!((error.step(), error.path().unwrap().to_str()), (Some("delete"), Some("full")));
    assert_eq!(says(&container, &sh("ls")).await, "dl\nfull");
}

#[tokio::test]
async fn symlink_returns_a_result_for_each_link() {
    let container = container().await;
    container.write("file", "content").await.unwrap();
    let links = [("file", "link"), ("/no/such/thing", "/w/dangling"), ("x", "file"), ("x", "no/dir"), ("x", "/usr/l")];
    let results = container.symlink(links).await.unwrap();
    let errnos: Vec<_> = results.iter().map(|it| it.as_ref().err().and_then(|error| error.raw_os_error())).collect();
    assert_eq!(errnos, [None, None, Some(libc::EEXIST), Some(libc::ENOENT), Some(libc::EROFS)]);
    let error = results[3].as_ref().unwrap_err();
    assert_eq!((error.step(), error.path().unwrap().to_str()), (Some("make_symlink"), Some("no/dir")));
    let script = "cat link; echo; readlink dangling; stat -c %u link | grep -qx $(id -u) && rm link && echo mine";
    assert_eq!(says(&container, &sh(script)).await, "content\n/no/such/thing\nmine");
    assert_eq!(errno(container.read("dangling", 9).await), libc::ELOOP);
    let many = (0..5000).map(|number| ("x", format!("l{number}")));
    assert_eq!(container.symlink(many).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
