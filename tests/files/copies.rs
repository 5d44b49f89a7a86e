//! Trees that are copied into a container and out of it, and collected by a pattern.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellblock::container::{Links, Tree};
use cellblock::{Command, Container, Error, ErrorKind, Limits, Mount, Stdio, Verdict, mount::Tmpfs};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::AsyncReadExt;

use crate::common::{SECOND, builder, container, is_slow, open_dir, python, says, sh};

/// What is in a directory of the host: each path with its mode and its content, `/` for a directory
/// and `-> target` for a link.
fn tree_of(dir: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                dirs.push(path.clone());
                "/".to_owned()
            } else {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            };
            let mode = if metadata.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
            found.insert(path.strip_prefix(dir).unwrap().to_owned(), (mode, content));
        }
    }
    found
}

fn write(dir: &Path, path: &str, mode: u32, content: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with each kind of file that a copy takes.
fn sample() -> tempfile::TempDir {
    let dir = open_dir();
    write(dir.path(), "src/main.c", 0o644, "int main;");
    write(dir.path(), "src/deep/er/run", 0o755, "#!/bin/sh");
    write(dir.path(), "large", 0o600, &"large ".repeat(100_000));
    write(dir.path(), ".hidden", 0o444, "");
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::set_permissions(dir.path().join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("src/main.c", dir.path().join("link")).unwrap();
    symlink("/no/such/thing", dir.path().join("src/dangling")).unwrap();
    symlink("/etc", dir.path().join("outward")).unwrap();
    dir
}

fn errno(error: &Error) -> (ErrorKind, Option<i32>) {
    (error.kind(), error.raw_os_error())
}

const EXCEEDED: (ErrorKind, Option<i32>) = (ErrorKind::File, Some(libc::EFBIG));
const REFUSED: (ErrorKind, Option<i32>) = (ErrorKind::File, Some(libc::EINVAL));

/// Whether the error's path ends so, and its text has this word.
fn names(error: &Error, path: &str, word: &str) -> bool {
    error.path().is_some_and(|it| it.ends_with(path)) && error.to_string().contains(word)
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_out_as_it_was() {
    let container = container().await;
    let (sample, back) = (sample(), open_dir());
    for _ in 0..2 {
        let (container, dir) = (container.clone(), sample.path().to_owned());
        tokio::spawn(async move { container.copy_in(dir, "in/to").await }).await.unwrap().unwrap();
    }
    let script = "cd in/to; cat link; echo; readlink outward; stat -c '%a %n' src/deep/er/run empty .hidden; \
                  find . ! -user $(id -u)";
    let expected = "int main;\n/etc\n755 src/deep/er/run\n711 empty\n444 .hidden";
    assert_eq!(says(&container, &sh(script)).await, expected);
    for _ in 0..2 {
        // A task may copy.
        let (container, dir) = (container.clone(), back.path().join("new/dir"));
        tokio::spawn(async move { container.copy_out("in/to", dir).await }).await.unwrap().unwrap();
    }
    assert_eq!(tree_of(&back.path().join("new/dir")), tree_of(sample.path()));
}

#[tokio::test]
async fn an_overlay_and_a_tmpfs_are_targets() {
    let (sample, lower) = (sample(), open_dir());
    write(lower.path(), "src/main.c", 0o640, "of the layer");
    write(lower.path(), "kept", 0o644, "of the layer");
    let container = builder().mount(Mount::overlay([lower.path()], "/over", Tmpfs::new())).build().await.unwrap();
    for target in ["/over", "/tmp/x"] {
        container.copy_in(sample.path(), target).await.unwrap();
        let back = open_dir();
        container.copy_out(target, back.path()).await.unwrap();
        let (mut copied, mut expected) = (tree_of(back.path()), tree_of(sample.path()));
        if target == "/over" {
            assert_eq!(copied.remove(Path::new("kept")).unwrap().1, "of the layer");
            // A file that is there keeps its mode.
            expected.get_mut(Path::new("src/main.c")).unwrap().0 = 0o640;
            copied.remove(Path::new("empty"));
            expected.remove(Path::new("empty"));
        }
        copied.remove(Path::new("empty"));
        expected.remove(Path::new("empty"));
        assert_eq!(copied, expected);
    }
    container.reset().await.unwrap();
    assert_eq!(container.read("/over/src/main.c", 100).await.unwrap(), b"of the layer");
    assert!(container.metadata("/over/large").await.is_err());
}

#[tokio::test]
async fn set_id_bits_are_not_copied() {
    let container = container().await;
    let (from, to) = (open_dir(), open_dir());
    write(from.path(), "program", 0o6755, "x");
    container.copy_in(from.path(), "in").await.unwrap();
    assert_eq!(says(&container, &sh("stat -c %a in/program; chmod 6755 in/program; mkdir -m 7777 in/d")).await, "755");
    container.copy_out("in", to.path()).await.unwrap();
    let modes = ["program", "d"].map(|name| fs::metadata(to.path().join(name)).unwrap().mode() & 0o7000);
    assert_eq!(modes, [0, 0]);
}

#[tokio::test]
async fn special_files_are_refused_by_name_and_never_block() {
    let container = container().await;
    let dir = open_dir();
    mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    let error = container.copy_in(dir.path(), "in").await.unwrap_err();
    assert!(errno(&error) == REFUSED && names(&error, "pipe", "a FIFO"), "{error}");
    says(&container, &sh("mkdir f s; mkfifo f/pipe; echo x > f/file")).await;
    says(&container, &python("import socket; socket.socket(socket.AF_UNIX).bind('s/socket')")).await;
    for (tree, word) in [("f", "a FIFO"), ("s", "a socket")] {
        let error = container.copy_out(tree, open_dir().path()).await.unwrap_err();
        assert!(errno(&error) == REFUSED && error.to_string().contains(word), "{error}");
    }
    let only = open_dir();
    container.tree("f").matching("file").copy_out(only.path()).await.unwrap();
    assert_eq!(tree_of(only.path()).len(), 1);
    assert_eq!(container.tree("f").read().await.unwrap(), [("file".into(), b"x\n".to_vec())]);
}

#[tokio::test]
async fn links_are_kept_skipped_or_refused() {
    let container = container().await;
    let sample = sample();
    for (links, count) in [(Links::Keep, 3), (Links::Skip, 0)] {
        let to = open_dir();
        container.tree("in").links(links).copy_in(sample.path()).await.unwrap();
        container.tree("in").links(links).copy_out(to.path()).await.unwrap();
        let copied = tree_of(to.path());
        assert_eq!(copied.values().filter(|(_, content)| content.starts_with("-> ")).count(), count);
        container.remove_dir_all("in").await.unwrap();
    }
    let error = container.tree("in").links(Links::Refuse).copy_in(sample.path()).await.unwrap_err();
    assert!(errno(&error) == REFUSED && error.to_string().contains("link"), "{error}");
}

#[tokio::test]
async fn a_copy_in_follows_no_link_on_the_host() {
    let container = container().await;
    let (dir, secret) = (open_dir(), open_dir());
    write(secret.path(), "key", 0o644, "of the host");
    symlink(secret.path(), dir.path().join("d")).unwrap();
    symlink(secret.path().join("key"), dir.path().join("f")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("d/key")).unwrap(), "of the host", "the control");
    container.copy_in(dir.path(), "in").await.unwrap();
    assert!(container.metadata("in/d").await.unwrap().is_symlink());
    assert_eq!(says(&container, &sh("cat in/f in/d/key 2>/dev/null || echo nothing")).await, "nothing");
    // The top itself is the caller's, and may be a link.
    container.copy_in(dir.path().join("d"), "top").await.unwrap();
    assert_eq!(container.read("top/key", 100).await.unwrap(), b"of the host");
}

#[tokio::test]
async fn a_copy_in_follows_no_link_inside() {
    let container = container().await;
    let dir = open_dir();
    write(dir.path(), "d/file", 0o644, "new");
    says(&container, &sh("mkdir /tmp/other in; echo old > /tmp/other/file; ln -s /tmp/other in/d")).await;
    let error = container.copy_in(dir.path(), "in").await.unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)), "{error}");
    says(&container, &sh("rm in/d; mkdir in/d; ln -s /tmp/other/file in/d/file")).await;
    let error = container.copy_in(dir.path(), "in").await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    assert_eq!(
        says(&container, &sh("cat /tmp/other/file; echo new > in/d/file; cat /tmp/other/file")).await,
        "old\nnew"
    );
}

#[tokio::test]
async fn a_copy_out_overwrites_nothing_through_a_link_of_the_host() {
    let container = container().await;
    let (to, other) = (open_dir(), open_dir());
    write(other.path(), "file", 0o644, "mine");
    says(
        &container,
        &sh("mkdir -p out/d; echo theirs > out/file; echo theirs > out/hard; ln -s x out/link; echo > out/d/f"),
    )
    .await;
    symlink(other.path().join("file"), to.path().join("file")).unwrap();
    fs::hard_link(other.path().join("file"), to.path().join("hard")).unwrap();
    symlink(other.path().join("file"), to.path().join("link")).unwrap();
    container.copy_out("out", to.path()).await.unwrap();
    assert_eq!(fs::read_to_string(other.path().join("file")).unwrap(), "mine");
    let copied = tree_of(to.path());
    assert_eq!(copied[Path::new("file")].1, "theirs\n");
    assert_eq!(copied[Path::new("hard")].1, "theirs\n");
    assert_eq!(copied[Path::new("link")].1, "-> x");
    // A directory is not replaced, and a link to one is not entered.
    fs::remove_dir_all(to.path().join("d")).unwrap();
    symlink(other.path(), to.path().join("d")).unwrap();
    let error = container.copy_out("out", to.path()).await.unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)), "{error}");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    // Control: a plain write goes through the link.
    fs::write(to.path().join("d/file"), "theirs").unwrap();
    assert_eq!(fs::read_to_string(other.path().join("file")).unwrap(), "theirs");
}

#[tokio::test]
async fn each_cap_is_an_error_that_says_which() {
    let container = container().await;
    let sample = sample();
    container.copy_in(sample.path(), "in").await.unwrap();
    let tree = |change: fn(Tree<'_>) -> Tree<'_>| change(container.tree("in"));
    let to = open_dir();
    for (tree, word) in [
        (tree(|it| it.max_bytes(600_000)), "more than 600000 bytes"),
        (tree(|it| it.max_entries(10)), "more than 10 files"),
        (tree(|it| it.max_depth(3)), "deeper than 3"),
    ] {
        for result in [tree.clone().copy_in(sample.path()).await, tree.copy_out(to.path()).await] {
            let error = result.unwrap_err();
            assert!(errno(&error) == EXCEEDED && error.to_string().contains(word), "{error}");
        }
    }
    let exact = || tree(|it| it.max_bytes(600_018).max_entries(11).max_depth(4));
    exact().copy_out(to.path()).await.unwrap();
    exact().copy_in(sample.path()).await.unwrap();
    assert_eq!(errno(&container.tree("in").max_bytes(100).read().await.unwrap_err()), EXCEEDED);
}

#[tokio::test]
async fn outputs_are_collected_by_a_pattern() {
    let container = container().await;
    let make =
        "mkdir -p out/a/b in; for f in out/1.txt out/2.txt out/a/3.txt out/a/b/4.log in/5.txt; do echo $f > $f; done;
        ln -s /etc/passwd out/link.txt; mkdir out/dir.txt; mkfifo out/fifo.txt";
    says(&container, &sh(make)).await;
    let collect = async |pattern: &str| {
        let mut found: Vec<_> = container.tree(".").matching(pattern).read().await.unwrap();
        found.sort();
        for (path, content) in &found {
            assert_eq!(String::from_utf8_lossy(content).trim(), path.to_str().unwrap());
        }
        found.into_iter().map(|(path, _)| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(collect("out/*.txt").await, ["out/1.txt", "out/2.txt"]);
    assert_eq!(collect("out/**").await, ["out/1.txt", "out/2.txt", "out/a/3.txt", "out/a/b/4.log"]);
    assert_eq!(collect("**/*.txt").await, ["in/5.txt", "out/1.txt", "out/2.txt", "out/a/3.txt"]);
    assert_eq!(collect("nothing/*").await, [""; 0]);
    let to = open_dir();
    container.tree(".").matching("out/**/?.log").copy_out(to.path()).await.unwrap();
    assert_eq!(tree_of(to.path()).into_keys().last().unwrap().to_str(), Some("out/a/b/4.log"));
    assert_eq!(errno(&container.tree("out").matching("*.txt").max_entries(1).read().await.unwrap_err()), EXCEEDED);
    container.tree("out").matching("1*").max_entries(1).read().await.unwrap();
}

#[tokio::test]
async fn a_sparse_file_takes_no_memory_and_no_disk() {
    let container = container().await;
    says(&container, &sh("mkdir out; truncate -s 7E out/huge || truncate -s 60M out/huge")).await;
    let to = open_dir();
    for error in [
        container.tree("out").max_bytes(1 << 20).read().await.unwrap_err(),
        container.tree("out").max_bytes(1 << 20).copy_out(to.path()).await.unwrap_err(),
    ] {
        assert_eq!(errno(&error), EXCEEDED);
    }
    assert!(tree_of(to.path()).is_empty());
}

#[tokio::test]
async fn a_bomb_of_names_ends_at_a_cap() {
    let container = builder().mounts(Mount::defaults(Tmpfs::new().inodes(50_000))).build().await.unwrap();
    says(&container, &python("import os\nos.mkdir('out')\nfor n in range(20000): open('out/%d' % n, 'w').close()"))
        .await;
    let to = open_dir();
    let error = container.copy_out("out", to.path()).await.unwrap_err();
    assert!(errno(&error) == EXCEEDED && error.to_string().contains("10000"), "{error}");
    assert!(tree_of(to.path()).len() <= 10_000);
    let one = container.tree("out").matching("19999").read().await.unwrap();
    assert_eq!(one.len(), 1, "other names do not count");
}

async fn started(container: &Container, source: &str) -> cellblock::Process {
    let mut command = python(source);
    command.stdout(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    process.stdout.as_mut().unwrap().read_exact(&mut [0]).await.unwrap();
    process
}

/// Swaps files, directories, links to the host's paths and FIFOs under the same names.
const SWAPPER: &str = "import os, itertools, shutil
os.makedirs('out', exist_ok=True)
def clear(name):
    try: os.unlink(name)
    except OSError: shutil.rmtree(name, ignore_errors=True)
for n in itertools.count():
    name = 'out/%d' % (n % 5)
    clear(name)
    try:
        [lambda: os.mkfifo(name), lambda: os.symlink('/etc/ld.so.cache', name), lambda: os.symlink('/etc', name),
         lambda: os.makedirs(name + '/sub'), lambda: open(name, 'w').write('mine')][n // 5 % 5]()
    except OSError: pass
    if n == 50: os.write(1, b'.')";

#[tokio::test]
async fn a_copy_of_a_tree_that_changes_ends_and_stays_inside() {
    let container = container().await;
    let mut process = started(&container, SWAPPER).await;
    let mut copied = 0;
    for _ in 0..300 {
        let to = open_dir();
        let copy = container.tree("out").copy_out(to.path());
        match tokio::time::timeout(10 * SECOND, copy).await.expect("it ends") {
            Ok(()) => copied += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::File, "{error}"),
        }
        for (path, (_, content)) in tree_of(to.path()) {
            let is_own = ["", "mine", "/", "-> /etc", "-> /etc/ld.so.cache"].contains(&content.as_str());
            assert!(is_own, "{} {content}", path.display());
        }
        if let Ok(files) = container.tree("out").read().await {
            assert!(files.iter().all(|(_, content)| content.is_empty() || content == b"mine"), "{files:?}");
        }
    }
    process.kill().await.unwrap();
    assert!(copied > 0, "some of the copies find a moment without a FIFO");
}

#[tokio::test]
async fn a_copy_ends_while_a_program_makes_names_as_fast_as_it_can() {
    let container = container().await;
    let fill = "import os, itertools
os.mkdir('out')
for n in itertools.count():
    try: open('out/%d' % (n % 100000), 'w').close()
    except OSError: pass
    if n == 100: os.write(1, b'.')";
    let mut process = started(&container, fill).await;
    let all = tokio::time::timeout(60 * SECOND, container.tree("out").read()).await.expect("it ends");
    assert!(all.as_ref().err().is_none_or(|error| errno(error) == EXCEEDED), "{:?}", all.err());
    let none = tokio::time::timeout(60 * SECOND, container.tree("out").matching("x").read()).await.expect("it ends");
    assert!(none.is_ok_and(|files| files.is_empty()));
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_run_keeps_its_deadline_while_files_are_copied() {
    let container = container().await;
    let dir = open_dir();
    (0..1000).for_each(|number| write(dir.path(), &format!("d{}/f{number}", number % 10), 0o644, "a small file"));
    let mut command = Command::new("/bin/sleep");
    command.arg("60").limits(Limits::new().wall_time(Duration::from_millis(300)));
    let run = container.run(&command);
    let copies = async {
        let end = Instant::now() + Duration::from_secs(1);
        let mut count = 0;
        while Instant::now() < end {
            container.copy_in(dir.path(), "in").await.unwrap();
            container.remove_dir_all("in").await.unwrap();
            count += 1;
        }
        count
    };
    let (report, copies) = tokio::join!(run, copies);
    let report = report.unwrap();
    assert_eq!(report.verdict(), Verdict::WallTime);
    let most = if is_slow() { 20 * SECOND } else { Duration::from_millis(400) };
    assert!(report.usage.wall.is_some_and(|wall| wall < most), "{:?}", report.usage.wall);
    assert!(copies > 0);
}
