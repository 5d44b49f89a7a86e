//! A plain description of a container, as [`launch`](super::launch) reads it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mount::{Mount, Tmpfs};
use crate::seccomp::Filter;
use crate::wire::Symlink;

#[derive(Clone, Debug)]
pub(crate) struct ContainerSpec {
    pub(super) init_exe: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) symlinks: Vec<Symlink>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) id_range: Option<Range<u32>>,
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) work_dir: PathBuf,
    pub(super) filter: Filter,
    pub(super) loopback: bool,
    pub(super) start_timeout: Duration,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            init_exe: "/proc/self/exe".into(),
            mounts: Mount::defaults(Tmpfs::default()),
            symlinks: DEFAULT_SYMLINKS.map(|(target, path)| symlink(target, path)).into(),
            masked: DEFAULT_MASKED.map(PathBuf::from).into(),
            id_range: None,
            hostname: "cellblock".into(),
            domainname: "cellblock".into(),
            work_dir: "/w".into(),
            filter: Filter::default(),
            loopback: false,
            start_timeout: Duration::from_secs(10),
        }
    }
}

impl ContainerSpec {
    /// Refuses relative paths, and overlays and files that cannot be made.
    pub(super) fn check(&self) -> Result<()> {
        let mut paths = [self.work_dir.as_path()]
            .into_iter()
            .chain(self.mounts.iter().map(Mount::target))
            .chain(self.symlinks.iter().map(|link| link.path.as_path()))
            .chain(self.masked.iter().map(PathBuf::as_path));
        if !paths.all(Path::is_absolute) {
            return Err(Error::invalid("a path inside the container must be absolute"));
        }
        self.mounts.iter().enumerate().try_for_each(|(place, mount)| {
            let earlier = &self.mounts[..place];
            mount.check_overlay(earlier).and_then(|()| mount.check_file(earlier))
        })
    }
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
