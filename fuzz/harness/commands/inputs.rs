//! The generator of paths, files and numbers, made from the bytes of a script.

use std::path::PathBuf;

use crate::container::fuzzing::{MAX_FDS, OpenRequest};

const NAMES: [&str; 24] = [
    "a",
    "b",
    "a/b",
    "b/a",
    "a/a/a",
    "a/../b",
    "..",
    ".",
    "",
    "../usr",
    "a/",
    "a//b",
    "./a",
    "/",
    "/w",
    "/w/a",
    "/tmp/a",
    "/dev/null",
    "/proc/self/exe",
    "/proc/1/fd/3",
    "/usr/bin/env",
    "/none/a",
    "a\0b",
    "a\n\u{1b}b",
];

/// How many files, strings or descriptors.
pub(super) fn count(number: u8) -> usize {
    pick([1, 0, 2, 3, 10, 253, 300, MAX_FDS], number)
}

/// The number of a descriptor.
pub(super) fn fd_number(number: u8) -> i32 {
    const NUMBERS: [i32; 16] =
        [0, 1, 2, 3, 4, 10, 100, 255, 1023, 1024, 65_535, 1 << 20, i32::MAX - 1, i32::MAX, -1, i32::MIN];
    pick(NUMBERS, number)
}

/// One of these, by its number.
pub(super) fn pick<T: Copy, const N: usize>(from: [T; N], number: u8) -> T {
    from[usize::from(number) % N]
}

pub(super) fn name(number: u8) -> &'static str {
    pick(NAMES, number)
}

/// One of the names, or a long one.
pub(super) fn path(number: u8, length: u8) -> PathBuf {
    match length {
        0xf8.. => "x/".repeat(3000).into(),
        0xf0.. => "x".repeat(256).into(),
        _ => name(number).into(),
    }
}

pub(super) fn file(number: u8, flags: u8, mode: u8) -> OpenRequest {
    let optional = [libc::O_CREAT, libc::O_EXCL, libc::O_TRUNC, libc::O_APPEND];
    let optional = optional.iter().enumerate().filter(|(bit, _)| flags & (4 << bit) != 0);
    let access = pick([libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY], flags & 3);
    OpenRequest {
        path: path(number, mode),
        flags: optional.fold(access, |all, (_, flag)| all | flag),
        mode: pick([0o644, 0, 0o7777, u32::MAX], mode >> 4 & 3),
        parents: flags & 0x80 != 0,
    }
}
