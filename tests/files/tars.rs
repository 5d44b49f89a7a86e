//! Trees as tar streams, honest and hostile.

use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::process::{Command as HostCommand, Stdio};
use std::task::{Context, Poll};
use std::time::UNIX_EPOCH;

use cellblock::container::Links;
use cellblock::{Container, Error, ErrorKind, Mount, mount::Tmpfs};
use tar::{Builder, EntryType, Header};
use tokio::io::{AsyncRead, ReadBuf};

use crate::common::{SECOND, builder, container, open_dir, says, sh};

/// A header with a right checksum, whatever it says. The fields are written as they are.
fn header(name: &str, kind: EntryType, bytes: u64, target: &str) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o6755);
    header.set_size(bytes);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut entry = header(name, EntryType::Regular, content.len() as u64, "");
    entry.extend(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn extension(kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut entry = file("extension", content);
    entry[..512].copy_from_slice(&header("extension", kind, content.len() as u64, ""));
    entry
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
    extension(EntryType::XHeader, format!("{length}{rest}").as_bytes())
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

async fn unpack(container: &Container, archive: &[u8]) -> Result<(), Error> {
    container.tree("in").unpack_tar(archive).await
}

async fn packed(container: &Container, path: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    container.tree(path).pack_tar(&mut archive).await.unwrap();
    archive
}

/// Runs the host's tar on an archive.
fn tar(arguments: &[&str], dir: &Path, archive: &[u8]) -> Vec<u8> {
    let mut command = HostCommand::new("tar");
    let mut tar =
        command.args(arguments).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = tar.stdin.take().unwrap();
    let archive = archive.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&archive)));
    let output = tar.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Builds a tree of every kind of entry, with long names, in `tree`.
const MAKE: &str = "mkdir -p tree/dir/empty; cd tree; echo small > small; head -c 300000 /dev/zero > large; \
    mkdir -m 700 closed; ln -s /etc/passwd link; chmod 750 small; touch -d @1000000000 small; \
    long=$(printf 'n%.0s' $(seq 120)); echo long > $long; mkdir -p $long-d/$long; echo > $long-d/$long/file; \
    ln -s $long$long longlink";

const DESCRIBE: &str =
    "find . ! -name . -printf '%p %y %m %s %l\\n' | sed 's/ d \\([0-9]*\\) [0-9]*/ d \\1/' | sort; cat small";

#[tokio::test]
async fn the_hosts_tar_and_the_library_understand_each_other() {
    let container = container().await;
    says(&container, &sh(MAKE)).await;
    let archive = packed(&container, "tree").await;
    let dir = open_dir();
    tar(&["-xf", "-", "--same-permissions"], dir.path(), &archive);
    assert_eq!(dir.path().join("small").metadata().unwrap().modified().unwrap(), UNIX_EPOCH + 1_000_000_000 * SECOND);
    let described = says(&container, &sh(&format!("cd tree; {DESCRIBE}"))).await;
    for format in ["--format=gnu", "--format=pax", "--format=ustar"] {
        // The old format has no room for names and targets of more than 100 bytes.
        let less: &[&str] = if format.ends_with("ustar") { &["--exclude=*nnn*", "--exclude=longlink"] } else { &[] };
        let archive = tar(&[&["-cf", "-", format, "--sort=name"], less, &["."]].concat(), dir.path(), &[]);
        container.remove_dir_all("in").await.ok();
        unpack(&container, &archive).await.unwrap();
        let again = says(&container, &sh(&format!("cd in; {DESCRIBE}"))).await;
        let is_packed = |line: &&str| less.is_empty() || !line.contains("nnn");
        assert_eq!(again, described.lines().filter(is_packed).collect::<Vec<_>>().join("\n"), "{format}");
    }
}

#[tokio::test]
async fn a_stream_is_filtered_and_capped_like_a_copy() {
    let container = container().await;
    says(&container, &sh(MAKE)).await;
    let mut archive = Vec::new();
    container.tree("tree").matching("s*").pack_tar(&mut archive).await.unwrap();
    container.tree("some").unpack_tar(&archive[..]).await.unwrap();
    assert_eq!(says(&container, &sh("ls some")).await, "small");
    let archive = packed(&container, "tree").await;
    container.tree("links").links(Links::Skip).matching("l*").unpack_tar(&archive[..]).await.unwrap();
    assert_eq!(says(&container, &sh("ls links")).await, "large");
    for (tree, word) in [
        (container.tree("x").max_bytes(1000), "more than 1000 bytes"),
        (container.tree("x").max_entries(5), "more than 5 files"),
        (container.tree("x").max_depth(1), "deeper than 1"),
    ] {
        let error = tree.unpack_tar(&archive[..]).await.unwrap_err();
        assert!(error.raw_os_error() == Some(libc::EFBIG) && error.to_string().contains(word), "{error}");
    }
    let error = container.tree("tree").max_bytes(1000).pack_tar(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

#[tokio::test]
async fn a_hostile_stream_stays_in_its_tree() {
    let container = container().await;
    says(&container, &sh("mkdir -p /tmp/other; echo old > /tmp/other/file; echo old > beside")).await;
    let link = |name, target| header(name, EntryType::Symlink, 0, target);
    let long = |name: &str| extension(EntryType::GNULongName, format!("{name}\0").as_bytes());
    for (what, entries, word) in [
        ("a path above", vec![file("../beside", b"new")], "leads out of the tree"),
        ("a path above, later", vec![file("a/../../beside", b"new")], "leads out of the tree"),
        ("an absolute path", vec![file("/tmp/other/file", b"new")], "leads out of the tree"),
        ("a PAX path above", vec![pax("path", "../beside"), file("x", b"new")], "leads out of the tree"),
        ("a long name above", vec![long("../beside"), file("x", b"new")], "leads out of the tree"),
        ("a file over a link", vec![link("l", "/tmp/other"), file("l/file", b"new")], "l/file"),
        ("a file over a link to above", vec![link("l", ".."), file("l/beside", b"new")], "l/beside"),
        ("a file at a link", vec![link("f", "/tmp/other/file"), file("large", &[0; 70_000]), file("f", b"new")], "f"),
        ("a PAX link", vec![pax("linkpath", "/tmp/other"), link("l", "x"), file("l/file", b"new")], "l/file"),
        ("a directory over a link", vec![link("l", "/tmp/other"), header("l/d", EntryType::Directory, 0, "")], "l/d"),
        ("a hard link", vec![header("h", EntryType::Link, 0, "/tmp/other/file")], "hard link"),
        ("a character device", vec![header("c", EntryType::Char, 0, "")], "device"),
        ("a block device", vec![header("b", EntryType::Block, 0, "")], "device"),
        ("a FIFO", vec![header("p", EntryType::Fifo, 0, "")], "FIFO"),
        ("a sparse file", vec![header("s", EntryType::GNUSparse, 1 << 40, "")], "type 83"),
        ("a PAX sparse file", vec![pax("GNU.sparse.major", "1"), file("s", b"x")], "sparse"),
        ("a file where a directory is", vec![header("d", EntryType::Directory, 0, ""), file("d", b"x")], "d"),
    ] {
        let error = unpack(&container, &archive(&entries)).await.expect_err(what);
        assert!(error.to_string().contains(word), "{what}: {error}");
        assert!(matches!(error.kind(), ErrorKind::File | ErrorKind::InvalidInput), "{what}: {error}");
        let outside = "cat beside /tmp/other/file; ls /tmp/other /w; find in -type p -o -type b -o -type c";
        assert_eq!(says(&container, &sh(outside)).await, "old\nold\n/tmp/other:\nfile\n\n/w:\nbeside\nin", "{what}");
        container.remove_dir_all("in").await.unwrap();
    }
    // Control: a plain reader of the same archive takes the way over the link.
    let dir = open_dir();
    let (out, target) = (dir.path().join("out"), dir.path().join("target"));
    for name in [&out, &target] {
        std::fs::create_dir(name).unwrap();
    }
    std::os::unix::fs::symlink(&target, out.join("l")).unwrap();
    std::fs::write(out.join("l/file"), "new").unwrap();
    assert!(target.join("file").exists());
}

#[tokio::test]
async fn a_good_stream_has_no_set_id_bits_and_the_last_of_equal_names() {
    let container = container().await;
    let entries = [
        file("./f", b"the first and longer"),
        file("f", b"last"),
        header("./", EntryType::Directory, 0, ""),
        header("d/", EntryType::Directory, 0, ""),
        header("old/", EntryType::new(0), 0, ""),
        file("missing/parents/f", b"x"),
        extension(EntryType::XGlobalHeader, b"18 comment=a commit\n"),
        header("l", EntryType::Symlink, 0, "one"),
        header("l", EntryType::Symlink, 0, "two"),
    ];
    unpack(&container, &archive(&entries)).await.unwrap();
    let script = "cd in; cat f; echo; stat -c '%a %F' f d old; cat missing/parents/f; echo; readlink l";
    let expected = "last\n755 regular file\n755 directory\n755 directory\nx\ntwo";
    assert_eq!(says(&container, &sh(script)).await, expected);
}

#[tokio::test]
async fn a_broken_stream_is_the_callers_fault() {
    let container = container().await;
    let whole = archive(&[file("f", &[b'x'; 2000]), file("large", &[b'x'; 100_000])]);
    for cut in [0, 100, 512, 1000, 512 + 2000, 512 * 5, 512 * 7, 60_000, whole.len() - 1024] {
        let error = unpack(&container, &whole[..cut]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{cut}: {error}");
        assert!(error.to_string().contains("ends too early"), "{error}");
    }
    unpack(&container, &whole[..whole.len() - 512]).await.expect("one empty block is an end");
    let mut wrong = whole.clone();
    wrong[0] ^= 1;
    let huge = |kind| archive(&[header("x", kind, 1 << 50, "")]);
    for (stream, word) in [
        (wrong, "checksum"),
        (vec![b'x'; 10_000], "checksum"),
        (huge(EntryType::GNULongName), "64 KiB"),
        (huge(EntryType::GNULongLink), "64 KiB"),
        (huge(EntryType::XHeader), "64 KiB"),
        (huge(EntryType::XGlobalHeader), "64 KiB"),
        (archive(&[extension(EntryType::XHeader, b"99 path=x\n"), file("x", b"")]), "PAX"),
        (archive(&[pax("size", "many"), file("x", b"")]), "size"),
    ] {
        let error = unpack(&container, &stream).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(word), "{error}");
    }
    let error = unpack(&container, &huge(EntryType::Regular)).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    let error = unpack(&container, &archive(&[pax("size", &u64::MAX.to_string()), file("x", b"")])).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

/// A stream that repeats the same bytes for ever, and counts them.
struct Endless {
    bytes: Vec<u8>,
    at: usize,
    read: u64,
}

impl AsyncRead for Endless {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while buffer.remaining() > 0 {
            let size = buffer.remaining().min(self.bytes.len() - self.at);
            buffer.put_slice(&self.bytes[self.at..][..size]);
            self.at = (self.at + size) % self.bytes.len();
            self.read += size as u64;
        }
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_endless_stream_ends_at_a_cap() {
    let container = builder().mounts(Mount::defaults(Tmpfs::new().inodes(50_000))).build().await.unwrap();
    let long_names = extension(EntryType::GNULongName, &[b'x'; 60_000]);
    for (what, bytes, most) in [
        ("files of one name", file("f", b"x"), 20 << 20),
        ("large files of one name", file("f", &[0; 200_000]), 300 << 20),
        ("directories", header("d", EntryType::Directory, 0, ""), 10 << 20),
        ("names without a file", long_names[..1024].to_vec(), 1 << 20),
    ] {
        let mut stream = Endless { bytes, at: 0, read: 0 };
        let unpacked = container.tree("in").unpack_tar(&mut stream);
        let unpacked = tokio::time::timeout(120 * SECOND, unpacked).await.expect(what);
        let error = unpacked.expect_err(what);
        assert!(matches!(error.kind(), ErrorKind::File | ErrorKind::InvalidInput), "{what}: {error}");
        assert!(stream.read <= most, "{what}: {} bytes were read", stream.read);
    }
}

#[tokio::test]
async fn an_archive_of_another_builder_is_unpacked() {
    let container = container().await;
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o600);
    let name = format!("{}/{}", "prefix".repeat(20), "name".repeat(20));
    builder.append_data(&mut header, &name, &b"hello"[..]).unwrap();
    let (unpacked, archive) = (container.clone(), builder.into_inner().unwrap());
    // A task may unpack and pack.
    let task = async move {
        unpack(&unpacked, &archive).await?;
        unpacked.tree("in").pack_tar(tokio::io::sink()).await
    };
    tokio::spawn(task).await.unwrap().unwrap();
    assert_eq!(container.read(format!("in/{name}"), 100).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_failing_stream_is_the_hosts_failure() {
    let container = container().await;
    says(&container, &sh("echo x > f")).await;
    let (writer, reader) = tokio::io::duplex(100);
    drop(reader);
    let error = container.tree(".").pack_tar(writer).await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Host, Some("write_tar")));
}
