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
use nix::unistd::fchdir;

use crate::init::files::resolve;
use crate::sys::mount::{attach_below, copy_below, detach, forbid, reconfigure, restrict_tree};
use crate::wire::ShownMachine;

use super::base::Base;
use super::content::write_file;
use super::file_systems::{new_generated_files, new_proc, new_whole_proc};
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

/// Mounts a proc, which shows everything, at the base's place for the next mount, and restricts it.
pub(super) fn machine_proc(base: &Base, machine: ShownMachine) -> io::Result<(OwnedFd, ProcLinks)> {
    let covers = generated_files(base, machine)?;
    let proc = new_whole_proc()?;
    base.attach_next(&proc)?;
    // No program has been here, so no link leads elsewhere.
    let uuid = unless_missing(copy_below(&proc, UUID))?;
    for (name, cover) in covers.into_iter().chain(uuid.map(|uuid| (UUID, uuid))) {
        unless_missing(attach_below(cover, &proc, name))?;
    }
    let links = LINKS.into_iter().filter_map(|name| unless_missing(open_link(&proc, name)).transpose());
    let links = links.collect::<io::Result<_>>()?;
    let links = ProcLinks { _links: links };
    match reconfigure(&proc, "subset", "pid") {
        // The kernel does not restrict a proc that is mounted: a restricted one takes its place.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {
            let restricted = new_proc()?;
            detach_from(base, &proc)?;
            Ok((restricted, links))
        }
        restricted => restricted.map(|()| (proc, links)),
    }
}

/// Makes the generated files, and returns a mount of each. Older kernels copy no detached mount, so
/// their directory is attached for a moment.
fn generated_files(base: &Base, machine: ShownMachine) -> io::Result<Vec<(&'static str, OwnedFd)>> {
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
    base.attach_next(&dir)?;
    restrict_tree(&dir, forbid::WRITES | forbid::DEVICES | forbid::EXEC)?;
    let names = files.into_iter().map(|(name, _)| name).chain([SETTINGS]);
    let copies = names.map(|name| Ok((name, copy_below(&dir, name)?))).collect();
    detach_from(base, &dir)?;
    copies
}

fn detach_from(base: &Base, mount: &OwnedFd) -> io::Result<()> {
    detach(mount)?;
    Ok(fchdir(base.dir())?)
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
