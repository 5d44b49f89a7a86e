//! A proc with a few files beside its processes.
//!
//! A proc that shows only processes (`subset=pid`) has no other names, and none can be added to it.
//! So the init mounts a whole one where no program is yet, covers the names that it keeps, and
//! restricts the proc after that. The kernel then looks up no other name. The covered names stay,
//! because a mount holds the kernel's entry of its place, and an open descriptor that of a link.
//!
//! Invariant: no file of the kernel stays visible, except the processes, links to them, and a
//! source of random UUIDs.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use crate::init::files::resolve;
use crate::sys::mount::{attach, attach_below, copy_below, forbid, reconfigure, restrict_tree};
use crate::wire::ShownMachine;

use super::content::write_file;
use super::file_systems::{new_generated_files, new_proc};
use super::machine::{SETTING_DIRS, files, settings};

/// The links of a proc into the reader's own process.
const LINKS: [&str; 2] = ["mounts", "net"];
/// The directory of the kernel's settings.
const SETTINGS: &str = "sys";
/// The one file of the kernel that stays: it says something new to each reader.
const UUID: &str = "sys/kernel/random/uuid";

/// The links of a proc that is mounted. They exist as long as this does.
#[derive(Debug)]
pub(super) struct ProcLinks {
    _links: Vec<OwnedFd>,
}

/// Mounts a proc, which shows everything, at a directory, and restricts it.
pub(super) fn attach_machine_proc(place: &OwnedFd, proc: &OwnedFd, machine: ShownMachine) -> io::Result<ProcLinks> {
    let covers = attach_generated_files(place, machine)?;
    // Over the generated files, so that no path leads to them.
    attach(proc, place)?;
    // No program has been here, so no link leads elsewhere.
    let uuid = unless_missing(copy_below(proc, UUID))?;
    for (name, cover) in covers.into_iter().chain(uuid.map(|uuid| (UUID, uuid))) {
        unless_missing(attach_below(cover, proc, name))?;
    }
    let links = LINKS.into_iter().filter_map(|name| unless_missing(open_link(proc, name)).transpose());
    let links = links.collect::<io::Result<_>>()?;
    match reconfigure(proc, "subset", "pid") {
        // The kernel does not restrict a proc that is mounted: cover it with a restricted one.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => attach(new_proc()?, place)?,
        restricted => restricted?,
    }
    Ok(ProcLinks { _links: links })
}

/// Makes the generated files at a directory, and returns a copy of the mount of each.
fn attach_generated_files(place: &OwnedFd, machine: ShownMachine) -> io::Result<Vec<(&'static str, OwnedFd)>> {
    let dir = new_generated_files()?;
    let files = files(machine)?;
    for (name, content) in &files {
        write_file(&dir, Path::new(name), content.as_bytes())?;
    }
    for name in [SETTINGS].iter().chain(&SETTING_DIRS) {
        mkdirat(&dir, *name, Mode::from_bits_truncate(0o755))?;
    }
    for (path, content) in settings()?.iter().chain(&[(UUID, String::new())]) {
        write_file(&dir, Path::new(path), content.as_bytes())?;
    }
    attach(&dir, place)?;
    restrict_tree(&dir, forbid::WRITES | forbid::DEVICES | forbid::EXEC)?;
    let names = files.into_iter().map(|(name, _)| name).chain([SETTINGS]);
    names.map(|name| Ok((name, copy_below(&dir, name)?))).collect()
}

fn open_link(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    Ok(resolve(dir, Path::new(name), OFlag::O_PATH, 0)?)
}

/// A kernel may be built without some of the files.
fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
