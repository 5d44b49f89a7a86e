//! The init's path resolver, while a program shapes the directory that the paths lead through.
//!
//! Every three bytes of an input are an operation and two names. Invariant: whatever the program
//! does, the host opens, makes, changes and deletes nothing outside of the directory, opens regular
//! files only, and never blocks.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink as plain_symlink;
use std::path::{Component, Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::container::fuzzing::{
    Failure, Ids, MakeDirectory, OpenRequest, Rename, Symlink, delete, make_directory, metadata, open, open_directory,
    read_link, rename, symlink,
};

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
    std::thread::scope(|scope| {
        let play = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).expect("a working directory for this thread alone");
            play(script);
        });
        play.join().expect("the script is played");
    });
}

fn play(script: &[u8]) {
    let thread = std::thread::current().id();
    let base = std::env::temp_dir().join(format!("cellblock-fuzz-{}-{thread:?}", std::process::id()));
    let (root, outside) = (base.join("root"), base.join("outside"));
    fs::create_dir_all(&root).expect("a directory");
    fs::write(&outside, "untouched").expect("a file");
    std::env::set_current_dir(&root).expect("a working directory");
    for operation in script.chunks_exact(3).take(64) {
        carry_out([operation[0], operation[1], operation[2]], &root, &outside);
    }
    assert_eq!(fs::read_to_string(&outside).expect("the file is still there"), "untouched");
    std::env::set_current_dir("/").expect("the root");
    fs::remove_dir_all(&base).expect("every file is this thread's own");
}

fn carry_out([operation, one, other]: [u8; 3], root: &Path, outside: &Path) {
    let name = |number: u8| NAMES[usize::from(number) % NAMES.len()];
    let (one, other) = (name(one), name(other));
    // An absolute path would begin at the host's root: here the container's root is the working
    // directory.
    let path = PathBuf::from(one.trim_start_matches('/'));
    let own = Ids { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    match operation % 16 {
        // The program, which stays within the directory.
        0 => drop(fs::create_dir(within(root, one))),
        1 => drop(plain_symlink(other, within(root, one))),
        2 => drop(plain_symlink(outside, within(root, one))),
        3 => drop(mkfifo(&within(root, one), Mode::S_IRWXU)),
        4 => drop(fs::remove_file(within(root, one))),
        5 => drop(fs::rename(within(root, one), within(root, other))),
        // The host.
        6 => check(root, open(&OpenRequest::read(path), own)),
        7 => check(root, open(&OpenRequest::write(path, 0o644), own)),
        8 => check(root, open(&OpenRequest { parents: true, ..OpenRequest::write(path, 0o644) }, own)),
        9 => check(root, open(&OpenRequest::append(path, 0o644), own)),
        10 => drop(delete(&path)),
        11 => drop(make_directory(&MakeDirectory { path, mode: 0o700 }, own)),
        12 => drop(rename(&Rename { from: path, to: other.trim_start_matches('/').into() })),
        13 => drop(metadata(&path).and_then(|_| read_link(&path))),
        14 => check_directory(root, open_directory(&path)),
        _ => drop(symlink(&Symlink { target: other.into(), path }, own)),
    }
}

/// The place of a name in the directory. Without a plain directory above it, the place of the
/// name's last part, so that the program itself never leaves through a link.
fn within(root: &Path, name: &str) -> PathBuf {
    let parts = Path::new(name).components().filter(|part| matches!(part, Component::Normal(_)));
    let path: PathBuf = parts.collect();
    let is_plain = |dir: &Path| fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir());
    match path.parent() {
        Some(parent) if parent.ancestors().all(|dir| is_plain(&root.join(dir))) => root.join(path),
        _ => root.join(path.file_name().unwrap_or(OsStr::new("a"))),
    }
}

/// An opened file is a regular one, and in the directory.
fn check(root: &Path, opened: Result<OwnedFd, Failure>) {
    let Ok(fd) = opened else { return };
    let place = check_place(root, &fd);
    assert!(File::from(fd).metadata().expect("an open file").is_file(), "{}", place.display());
}

/// An opened directory is one, and in the directory.
fn check_directory(root: &Path, opened: Result<OwnedFd, Failure>) {
    let Ok(fd) = opened else { return };
    let place = check_place(root, &fd);
    assert!(File::from(fd).metadata().expect("an open directory").is_dir(), "{}", place.display());
}

fn check_place(root: &Path, fd: &OwnedFd) -> PathBuf {
    let place = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("an open descriptor has a name");
    assert!(place.starts_with(root), "{}", place.display());
    place
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::seeds;
    use super::*;

    #[test]
    fn the_seeds_are_played() {
        // A link out of the directory, and each way in which the host may take it.
        let link = [2, 0, 0, 6, 0, 0, 8, 2, 0, 1, 1, 7, 9, 1, 0, 10, 3, 0];
        seeds::play("paths", [("link", link.into())], paths);
    }

    #[test]
    fn hostile_paths_are_played() {
        let mut random = Random::new(0x2545_f491);
        for _ in 0..500 {
            paths(&random.bytes(96));
        }
        for host in 6..16 {
            paths(&[2, 0, 0, host, 0, 0, host, 2, 0, 1, 1, 7, host, 1, 0, host, 3, 0]);
        }
    }
}
