//! The init's configuration, and the parts of the host's file systems that it mounts.
//!
//! Invariant: a missing source is an error, unless its mount says otherwise. If only the init may
//! copy the mounts of a source, the init does so: it has the same rights over files.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::container::ids::Mapping;
use crate::container::spec::ContainerSpec;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::mount::Mount;
use crate::sys::{clone, mount};
use crate::wire::{Configure, Ids, MountEntry, MountKind, Strings};

use super::error::host_error;

/// The configuration, and the mount trees that this process has copied for it.
pub(crate) fn configuration(
    spec: &ContainerSpec,
    mapping: &Mapping,
    clones_into_group: bool,
) -> Result<(Configure, Vec<Arc<OwnedFd>>)> {
    let mut fds = Vec::new();
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        if let Some((Mount { target, kind, .. }, trees)) = resolve(mount, mapping.program_on_host())? {
            mounts.push(MountEntry { target, kind, trees: trees.len() });
            fds.extend(trees.into_iter().map(Arc::new));
        }
    }
    let configure = Configure {
        mounts,
        symlinks: spec.symlinks.clone(),
        masked: spec.masked.clone(),
        program: mapping.program(),
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        work_dir: spec.work_dir.clone(),
        env: default_env(spec),
        filter: spec.filter.into(),
        clones_into_group,
        loopback: spec.loopback,
    };
    Ok((configure, fds))
}

/// The variables of runs that do not set them: a home.
fn default_env(spec: &ContainerSpec) -> Strings {
    let mut env = Strings::default();
    env.push(&[b"HOME=", spec.work_dir.as_os_str().as_bytes()]);
    env
}

/// Resolves the sources of a mount with the host's rights. Returns the mount with its mount trees,
/// or without them if the init has to copy them. Returns `None` for a source that is missing and
/// may be.
fn resolve(mount: &Mount, program: Option<Ids>) -> Result<Option<(Mount, Vec<OwnedFd>)>> {
    let mut mount = mount.clone();
    let (sources, copy): (_, fn(&Path) -> io::Result<OwnedFd>) = match &mut mount.kind {
        MountKind::Bind { source, .. } => (std::slice::from_mut(source), mount::copy_tree),
        MountKind::Overlay { lowers, .. } => (lowers.as_mut_slice(), mount::copy_mount),
        _ => return Ok(Some((mount, Vec::new()))),
    };
    let mut trees = Vec::new();
    for source in sources {
        match copy_source(source, copy) {
            Ok(tree) => trees.extend(tree),
            Err(error) if error.kind() == io::ErrorKind::NotFound && mount.skip_missing => return Ok(None),
            Err(error) => return Err(Error::io(ErrorKind::Build, Step::OpenBindSource, error).at(&*source)),
        }
    }
    if let (MountKind::Overlay { lowers, .. }, Some(program)) = (&mount.kind, program) {
        for (lower, tree) in lowers.iter().zip(&trees) {
            map_owner(tree, program).map_err(|error| host_error(Step::MapOwners)(error).at(lower))?;
        }
    }
    Ok(Some((mount, trees)))
}

/// Makes a source's path absolute, and copies the mounts there. Returns `None` if this process has
/// no rights over its mount namespace. The init has them over its own, and the same rights over
/// files.
fn copy_source(source: &mut PathBuf, copy: fn(&Path) -> io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    *source = std::path::absolute(&source)?;
    match copy(source) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => source.metadata().map(|_| None),
        tree => tree.map(Some),
    }
}

/// Shows the files of the owner of a mount's root as the program's, if the file system can do that.
fn map_owner(mount: &OwnedFd, program: Ids) -> io::Result<()> {
    let owner = nix::sys::stat::fstat(mount)?;
    let map = |from: u32, to: u32| format!("{from} {to} 1");
    let namespace = clone::user_namespace(&map(owner.st_uid, program.uid), &map(owner.st_gid, program.gid))?;
    match mount::map_owners(mount, namespace.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        mapped => mapped,
    }
}
