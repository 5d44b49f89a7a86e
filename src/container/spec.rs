//! A plain description of a container, as [`launch`](super::launch) reads it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mount::{Mount, Tmpfs};
use crate::root::Root;
use crate::seccomp::Filter;
use crate::wire::Symlink;

#[derive(Clone, Debug)]
pub(crate) struct ContainerSpec {
    pub(super) init_exe: PathBuf,
    /// The tree that "/" is made of. `None`: what the mounts make, on an empty tmpfs.
    pub(super) root: Option<Root>,
    pub(super) mounts: Mounts,
    pub(super) symlinks: Vec<Symlink>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) id_range: Option<Range<u32>>,
    pub(super) hostname: String,
    pub(super) domainname: String,
    /// `None`: the root's, or `/w`.
    pub(super) work_dir: Option<PathBuf>,
    pub(super) filter: Filter,
    pub(super) loopback: bool,
    pub(super) start_timeout: Duration,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            init_exe: "/proc/self/exe".into(),
            root: None,
            mounts: Mounts::default(),
            symlinks: DEFAULT_SYMLINKS.map(|(target, path)| symlink(target, path)).into(),
            masked: DEFAULT_MASKED.map(PathBuf::from).into(),
            id_range: None,
            hostname: "cellblock".into(),
            domainname: "cellblock".into(),
            work_dir: None,
            filter: Filter::default(),
            loopback: false,
            start_timeout: Duration::from_secs(10),
        }
    }
}

impl ContainerSpec {
    /// Refuses relative paths, and overlays and files that cannot be made.
    pub(super) fn check(&self) -> Result<()> {
        let mounts = self.mounts();
        let work_dir = self.work_dir.iter().map(PathBuf::as_path);
        let mut paths = work_dir
            .chain(mounts.iter().map(Mount::target))
            .chain(self.symlinks.iter().map(|link| link.path.as_path()))
            .chain(self.masked.iter().map(PathBuf::as_path));
        if !paths.all(Path::is_absolute) {
            return Err(Error::invalid("a path inside the container must be absolute"));
        }
        if mounts.iter().any(|mount| mount.target() == Path::new("/")) {
            let advice = "no mount can lie at /: pass a Root to ContainerBuilder::root, such as Root::directory(path)";
            return Err(Error::invalid(advice));
        }
        mounts.iter().enumerate().try_for_each(|(place, mount)| {
            let earlier = &mounts[..place];
            mount.check_overlay(earlier).and_then(|()| mount.check_file(earlier))
        })
    }

    /// The mounts, in their order, without the root.
    pub(super) fn mounts(&self) -> Vec<Mount> {
        let Mounts { replaced, added } = &self.mounts;
        let default = || match self.root {
            Some(_) => Mount::defaults_over_root(Tmpfs::default()),
            None => Mount::defaults(Tmpfs::default()),
        };
        let mut mounts = replaced.clone().unwrap_or_else(default);
        for mount in added {
            match mounts.iter_mut().find(|it| it.target() == mount.target()) {
                Some(it) => *it = mount.clone(),
                None => mounts.push(mount.clone()),
            }
        }
        mounts
    }
}

/// The mounts that a builder was given. Which ones are the default is known only once it is known
/// whether there is a [`Root`].
#[derive(Clone, Debug, Default)]
pub(super) struct Mounts {
    /// In place of the default ones.
    pub(super) replaced: Option<Vec<Mount>>,
    /// After those, or in place of one with the same target.
    pub(super) added: Vec<Mount>,
}

pub(super) fn symlink(target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Symlink {
    Symlink { target: target.into(), path: path.into() }
}

const DEFAULT_SYMLINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// The masked paths of the OCI runtimes.
const DEFAULT_MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
