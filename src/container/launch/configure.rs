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
use crate::root::ResolvedRoot;
use crate::sys::{clone, mount};
use crate::wire::{Configure, ConfigureFd, Ids, MountEntry, MountKind, Strings};

use super::error::host_error;

/// The configuration with its descriptors: the mount trees that this process has copied for it.
pub(crate) fn configuration(
    spec: &ContainerSpec,
    root: Option<&ResolvedRoot>,
    mapping: &Mapping,
    clones_into_group: bool,
) -> Result<(Configure, Vec<Arc<OwnedFd>>)> {
    let mut fds = Vec::new();
    let mut roles = Vec::new();
    let mut mounts = Vec::new();
    let at_root = spec.root.as_ref().zip(root);
    let at_root = at_root.map(|(spec, root)| Mount::overlay(&root.lowers, "/", spec.tmpfs_of_changes()));
    for mount in at_root.into_iter().chain(spec.mounts()) {
        if let Some((Mount { target, kind, .. }, trees)) = resolve(mount, mapping.program_on_host())? {
            roles.extend(trees.iter().map(|_| ConfigureFd::MountTree(mounts.len())));
            mounts.push(MountEntry { target, kind });
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
        env: environment(root, &work_dir(spec, root))?,
        work_dir: work_dir(spec, root),
        filter: spec.filter.into(),
        clones_into_group,
        loopback: spec.loopback,
        fds: roles,
    };
    Ok((configure, fds))
}

fn work_dir(spec: &ContainerSpec, root: Option<&ResolvedRoot>) -> PathBuf {
    let own = spec.work_dir.as_ref();
    own.or_else(|| root?.work_dir.as_ref()).map_or_else(|| "/w".into(), PathBuf::clone)
}

/// The search path of the programs of a root that sets none: Docker's.
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of runs that do not set them: those of the root, a search path in a root, and a
/// home.
fn environment(root: Option<&ResolvedRoot>, home: &Path) -> Result<Strings> {
    let mut strings = Strings::default();
    let variables = root.map_or(&[][..], |root| &root.env);
    for (key, value) in variables {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        if key.is_empty() || key.contains(&b'=') || key.contains(&0) || value.contains(&0) {
            let key = key.escape_ascii();
            return Err(Error::invalid(format!("the root sets a variable that no program can have: {key}")));
        }
        strings.push(&[key, b"=", value]);
    }
    let is_missing = |name| variables.iter().all(|(key, _)| key != name);
    if root.is_some() && is_missing("PATH") {
        strings.push(&[b"PATH=", ROOT_PATH.as_bytes()]);
    }
    if is_missing("HOME") {
        strings.push(&[b"HOME=", home.as_os_str().as_bytes()]);
    }
    Ok(strings)
}

/// Resolves the sources of a mount with the host's rights. Returns the mount with its mount trees,
/// or without them if the init has to copy them. Returns `None` for a source that is missing and
/// may be.
fn resolve(mut mount: Mount, program: Option<Ids>) -> Result<Option<(Mount, Vec<OwnedFd>)>> {
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
/// The other owners stay as they are. No container has their ids, but the kernel refuses to
/// delete a file whose owner has no id at all.
fn map_owner(mount: &OwnedFd, program: Ids) -> io::Result<()> {
    let owner = nix::sys::stat::fstat(mount)?;
    let map = |from: u32, to: u32| format!("{from} {to} 1\n{}", all_ids_but([from.min(to), from.max(to)]));
    let namespace = clone::user_namespace(&map(owner.st_uid, program.uid), &map(owner.st_gid, program.gid))?;
    match mount::map_owners(mount, namespace.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        mapped => mapped,
    }
}

/// The lines of an id map that maps all ids but two to themselves. The first is not the higher one.
fn all_ids_but([first, second]: [u32; 2]) -> String {
    let ranges = [(0, first), (first.saturating_add(1), second), (second.saturating_add(1), u32::MAX)];
    let lines = ranges.into_iter().filter(|(start, end)| start < end);
    lines.map(|(start, end)| format!("{start} {start} {}\n", end - start)).collect()
}
