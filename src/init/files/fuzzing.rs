//! What the fuzz target of the path resolver does with its input: a program that shapes a directory, and a host that opens.
//!
//! Invariant: every three bytes are an operation and its two names. Whatever was done, nothing outside of the directory is
//! opened, made, changed or deleted, what is opened is a regular file, and nothing blocks.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink as plain_symlink;
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::mkfifo;

use super::*;

const NAMES: [&str; 16] = [
    "a",
    "b",
    "a/b",
    "b/a",
    "a/a/a",
    "b/b",
    "a/../b",
    "..",
    ".",
    "",
    "../outside",
    "a/../../outside",
    "/a",
    "./a",
    "a/",
    "a//b",
];

/// Plays a script in a directory of its own.
pub fn paths(script: &[u8]) {
    // The working directory becomes this thread's own.
    let play = || {
        unshare(CloneFlags::CLONE_FS).expect("a working directory of one's own");
        play(script);
    };
    std::thread::scope(|scope| scope.spawn(play).join().expect("the script is played"));
}

fn play(script: &[u8]) {
    let base =
        std::env::temp_dir().join(format!("cellblock-fuzz-{}-{:?}", std::process::id(), std::thread::current().id()));
    let (root, outside) = (base.join("root"), base.join("outside"));
    fs::create_dir_all(&root).expect("a directory");
    fs::write(&outside, "untouched").expect("a file");
    std::env::set_current_dir(&root).expect("a directory to be in");
    let own = Ids { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    for operation in script.chunks_exact(3).take(64) {
        let name = |byte: u8| NAMES[usize::from(byte) % NAMES.len()];
        let (one, other) = (name(operation[1]), name(operation[2]));
        // A path of the library's may not begin at the container's root here: that would be the host's.
        let path = PathBuf::from(one.trim_start_matches('/'));
        match operation[0] % 12 {
            // The program: it may do what it likes, within.
            0 => drop(fs::create_dir(within(&root, one))),
            1 => drop(plain_symlink(other, within(&root, one))),
            2 => drop(plain_symlink(&outside, within(&root, one))),
            3 => drop(mkfifo(&within(&root, one), Mode::S_IRWXU)),
            4 => drop(fs::remove_file(within(&root, one))),
            5 => drop(fs::rename(within(&root, one), within(&root, other))),
            // The host.
            6 => look(&root, open(&OpenRequest::read(path), own)),
            7 => look(&root, open(&OpenRequest::write(path, 0o644), own)),
            8 => look(&root, open(&OpenRequest { parents: true, ..OpenRequest::write(path, 0o644) }, own)),
            9 => look(&root, open(&OpenRequest::append(path, 0o644), own)),
            10 => drop(delete(&path)),
            _ => drop(symlink(&Symlink { target: other.into(), path }, own)),
        }
    }
    assert_eq!(fs::read_to_string(&outside).expect("it is still there"), "untouched");
    std::env::set_current_dir("/").expect("the root");
    fs::remove_dir_all(&base).expect("nothing else is in the way");
}

/// The place in the directory that has this name's last part, so that the program itself does not leave it.
fn within(root: &Path, name: &str) -> PathBuf {
    let parts = Path::new(name).components().filter(|part| matches!(part, Component::Normal(_)));
    let path: PathBuf = parts.collect();
    // What it would follow a link to is its own affair: it has the rights of nobody else.
    let is_plain = |dir: &Path| fs::symlink_metadata(dir).is_ok_and(|it| it.is_dir());
    match path.parent() {
        Some(parent) if parent.ancestors().all(|it| is_plain(&root.join(it))) => root.join(path),
        _ => root.join(path.file_name().unwrap_or(OsStr::new("a"))),
    }
}

fn look(root: &Path, opened: Result<OwnedFd, Failure>) {
    let Ok(fd) = opened else { return };
    let place = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("an open descriptor has a name");
    assert!(place.starts_with(root), "{}", place.display());
    assert!(File::from(fd).metadata().expect("an open file").is_file(), "{}", place.display());
}

#[test]
fn hostile_paths_are_played() {
    let mut state = 0x2545_f491_u32;
    for _ in 0..500 {
        let script: Vec<u8> = (0..96)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        paths(&script);
    }
    // A link out of the directory, and every way to it.
    for host in 6..12 {
        paths(&[2, 0, 0, host, 0, 0, host, 2, 0, 1, 1, 7, host, 1, 0, host, 3, 0]);
    }
}
