//! What a container is told to make of itself, and what it is shown of the host.
//!
//! Invariant: a source that is missing is an error, unless its mount says otherwise; one that only the init may open is left
//! to it, which has the same rights over files.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::container::builder::ContainerBuilder;
use crate::container::ids::Mapping;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::mount::Mount;
use crate::sys::{clone, mount};
use crate::wire::{Configure, Ids, MountEntry, MountKind};

use super::kind;

/// The configuration, with the mount trees that the host has to make itself.
pub(super) fn configuration(
    builder: &ContainerBuilder,
    mapping: &Mapping,
    clones_into_group: bool,
) -> Result<(Configure, Vec<Arc<OwnedFd>>)> {
    let mut fds = Vec::new();
    let mut mounts = Vec::new();
    for mount in &builder.mounts {
        if let Some((Mount { target, kind, .. }, trees)) = resolve(mount, mapping.program_on_host())? {
            mounts.push(MountEntry { target, kind, trees: trees.len() });
            fds.extend(trees.into_iter().map(Arc::new));
        }
    }
    let configure = Configure {
        mounts,
        symlinks: builder.symlinks.clone(),
        masked: builder.masked.clone(),
        program: mapping.program(),
        hostname: builder.hostname.clone(),
        domainname: builder.domainname.clone(),
        work_dir: builder.work_dir.clone(),
        filter: builder.filter.into(),
        clones_into_group,
        loopback: builder.loopback,
    };
    Ok((configure, fds))
}

/// Finds what a mount shows of the host, with the host's rights: its mount trees, or none where the init has to make them.
/// `None` where a source is missing and may be.
fn resolve(mount: &Mount, program: Option<Ids>) -> Result<Option<(Mount, Vec<OwnedFd>)>> {
    let mut mount = mount.clone();
    let (sources, copy): (_, fn(&Path) -> io::Result<OwnedFd>) = match &mut mount.kind {
        MountKind::Bind { source, .. } => (std::slice::from_mut(source), mount::copy_tree),
        MountKind::Overlay { lowers, .. } => (lowers.as_mut_slice(), mount::copy_mount),
        MountKind::Tmpfs(_) | MountKind::Proc | MountKind::FileSystem { .. } => return Ok(Some((mount, Vec::new()))),
    };
    let mut trees = Vec::new();
    for source in sources {
        match find(source, copy) {
            Ok(tree) => trees.extend(tree),
            Err(error) if error.kind() == io::ErrorKind::NotFound && mount.skip_missing => return Ok(None),
            Err(error) => return Err(Error::io(ErrorKind::Build, Step::OpenBindSource, error).at(&*source)),
        }
    }
    if let (MountKind::Overlay { lowers, .. }, Some(program)) = (&mount.kind, program) {
        for (lower, tree) in lowers.iter().zip(&trees) {
            give(tree, program).map_err(|error| Error::io(kind(&error), Step::MapOwners, error).at(lower))?;
        }
    }
    Ok(Some((mount, trees)))
}

/// Makes a source's path absolute, and copies what is mounted there. `None` for a user without rights over the mount
/// namespace: the init, which has the same rights over files, has them there.
fn find(source: &mut PathBuf, copy: fn(&Path) -> io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    *source = std::path::absolute(&source)?;
    match copy(source) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => source.metadata().map(|_| None),
        tree => tree.map(Some),
    }
}

/// Shows what belongs to the owner of a mount's root as the program's, where the file system can do that.
fn give(mount: &OwnedFd, program: Ids) -> io::Result<()> {
    let owner = nix::sys::stat::fstat(mount)?;
    let map = |from: u32, to: u32| format!("{from} {to} 1");
    let namespace = clone::user_namespace(&map(owner.st_uid, program.uid), &map(owner.st_gid, program.gid))?;
    match mount::map_owners(mount, namespace.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        given => given,
    }
}
