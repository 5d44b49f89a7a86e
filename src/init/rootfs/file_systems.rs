//! New file systems, detached: in no mount namespace yet.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys::mount::{forbid, new_file_system};
use crate::wire::{Ids, TmpfsOptions};

/// The tmpfs that the root file system is made on.
pub(super) fn new_root() -> io::Result<OwnedFd> {
    new_file_system("tmpfs", &options([("mode", "0755"), ("size", "1m")]), forbid::DEVICES)
}

/// A tmpfs whose root directory belongs to `owner`.
pub(super) fn new_tmpfs(tmpfs: TmpfsOptions, owner: Ids) -> io::Result<OwnedFd> {
    let TmpfsOptions { bytes, inodes, mode } = tmpfs;
    let options = options([
        ("size", bytes.to_string()),
        ("nr_inodes", inodes.to_string()),
        ("mode", format!("{mode:o}")),
        ("uid", owner.uid.to_string()),
        ("gid", owner.gid.to_string()),
    ]);
    new_file_system("tmpfs", &options, forbid::DEVICES | forbid::ACCESS_TIMES)
}

/// An empty, read-only directory.
pub(super) fn new_empty_directory() -> io::Result<OwnedFd> {
    let options = options([("size", "4k"), ("nr_inodes", "1"), ("mode", "0555")]);
    new_file_system("tmpfs", &options, forbid::WRITES | forbid::DEVICES)
}

/// A proc that shows nothing but the program's own processes.
pub(super) fn new_proc() -> io::Result<OwnedFd> {
    let options = options([("subset", "pid"), ("hidepid", "invisible")]);
    new_file_system("proc", &options, PROC)
}

/// A proc that shows the program's own processes, and everything of the machine.
pub(super) fn new_whole_proc() -> io::Result<OwnedFd> {
    new_file_system("proc", &options([("hidepid", "invisible")]), PROC)
}

/// A small tmpfs for files that the init writes.
pub(super) fn new_generated_files() -> io::Result<OwnedFd> {
    new_file_system("tmpfs", &options([("size", "256k"), ("mode", "0755")]), forbid::DEVICES | forbid::EXEC)
}

const PROC: u64 = forbid::WRITES | forbid::DEVICES | forbid::EXEC;

fn options<V: Into<String>, const N: usize>(options: [(&str, V); N]) -> Vec<(String, String)> {
    options.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}
