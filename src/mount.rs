//! The mounts of a container's root file system.
//!
//! Invariant: a [`Mount`] is complete before it is sent. The init adds only the program's ids.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::wire::{BindAccess, Content, MountKind, ShownMachine, TmpfsOptions};

/// One mount of a container's root file system. A missing target is created, inside the container
/// only.
///
/// Every mount is `nosuid`, and every mount but a [`device`](Self::device) is `nodev`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Mount {
    pub(crate) target: PathBuf,
    pub(crate) kind: MountKind,
    pub(crate) skip_missing: bool,
}

/// A tmpfs that belongs to the program's uid, and its limits.
///
/// Default: 64 MiB, 16 384 inodes (files, directories and links), mode 0755.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Tmpfs {
    bytes: u64,
    inodes: u64,
    mode: u32,
}

impl Default for Tmpfs {
    fn default() -> Self {
        Self { bytes: 64 << 20, inodes: 16 << 10, mode: 0o755 }
    }
}

impl Tmpfs {
    /// A tmpfs with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes it may hold. The kernel rounds up to whole pages. 0 means no limit.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Sets how many inodes it may hold. 0 means no limit: a program can then make a reset take as
    /// long as it likes.
    pub fn inodes(self, inodes: u64) -> Self {
        Self { inodes, ..self }
    }

    /// Sets the mode of its root directory.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

impl From<Tmpfs> for TmpfsOptions {
    fn from(Tmpfs { bytes, inodes, mode }: Tmpfs) -> Self {
        Self { bytes, inodes, mode }
    }
}

/// What the files of a [proc](Mount::proc_with) say of the machine, in place of the truth about the
/// host.
///
/// Default: 4 GiB of memory, all of it free. A runtime that takes a quarter of that for its heap
/// gets the default memory limit of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Machine {
    memory: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { memory: 4 << 30 }
    }
}

impl Machine {
    /// A machine with the default figures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes of memory the machine seems to have.
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: bytes }
    }
}

impl Mount {
    /// Mounts a file or directory of the host at `target`, read-only, with all its submounts.
    ///
    /// The host resolves the source, with the host's rights, when the container is built. A
    /// relative source starts at the host's working directory.
    ///
    /// ```
    /// use cellblock::{Container, Mount};
    ///
    /// let builder = Container::builder().mount(Mount::bind("/srv/problems", "/problems"));
    /// ```
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::from_host(source.into(), target.into(), BindAccess::ReadOnly)
    }

    /// Mounts a file or directory of the host as [`bind`](Self::bind) does, but writable. A program
    /// can write what the container's ids may write.
    pub fn bind_writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::from_host(source.into(), target.into(), BindAccess::Writable)
    }

    /// Mounts a device node of the host at the same path inside.
    pub fn device(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::from_host(path.clone(), path, BindAccess::Device)
    }

    /// Mounts a tmpfs that programs can write to. Each reset replaces it by a new one.
    ///
    /// ```
    /// use cellblock::{Container, Mount, mount::Tmpfs};
    ///
    /// let scratch = Tmpfs::new().bytes(256 << 20).inodes(1000);
    /// let builder = Container::builder().mount(Mount::tmpfs("/scratch", scratch));
    /// ```
    pub fn tmpfs(target: impl Into<PathBuf>, tmpfs: Tmpfs) -> Self {
        Self::new(target.into(), MountKind::Tmpfs(tmpfs.into()))
    }

    /// Mounts directories of the host, the first on top, under a tmpfs that takes every change.
    /// Programs can write to this prepared tree as if it were their own, and each reset restores
    /// it.
    ///
    /// `upper` limits the changes. A file that is written to counts with its whole size.
    ///
    /// The host resolves the sources as for [`bind`](Self::bind). A file that belongs to the owner
    /// of its source directory belongs to the program inside; every other file belongs to the
    /// overflow id (`nobody`). All files do if the source's file system cannot map owners
    /// (mount_setattr(2), `MOUNT_ATTR_IDMAP`; needs Linux 5.19 under an overlay). Submounts of a
    /// source are left out; a host without CAP_SYS_ADMIN cannot use a source that has any.
    ///
    /// A file of another owner or group can be read as its mode says for others, and deleted, but
    /// not changed. Before Linux 6.6, a directory of a source that has entries cannot be deleted
    /// (`EIO`).
    ///
    /// There are at most 64 directories. The target must not lie within a tmpfs or another overlay.
    ///
    /// ```
    /// use cellblock::{Container, Mount, mount::Tmpfs};
    ///
    /// let project = Mount::overlay(["/srv/patches", "/srv/project"], "/project", Tmpfs::new());
    /// let builder = Container::builder().mount(project);
    /// ```
    pub fn overlay<P: Into<PathBuf>>(
        lowers: impl IntoIterator<Item = P>,
        target: impl Into<PathBuf>,
        upper: Tmpfs,
    ) -> Self {
        let lowers = lowers.into_iter().map(Into::into).collect();
        Self::new(target.into(), MountKind::Overlay { lowers, upper: upper.into() })
    }

    /// Mounts a read-only proc of the container's pid namespace. It shows only the program's own
    /// processes (`subset=pid,hidepid=invisible`: no `/proc/sys`, no `/proc/meminfo`).
    pub fn proc(target: impl Into<PathBuf>) -> Self {
        Self::new(target.into(), MountKind::Proc(None))
    }

    /// Mounts a [proc](Self::proc) with those files that ordinary programs read beside processes:
    /// `cpuinfo`, `loadavg`, `meminfo`, `stat`, `uptime`, `version`, and a few of `sys`. They are
    /// generated when the container is built, do not change, and show `machine`, with the CPUs that
    /// the host process may use and the kernel's version. No other file of a proc is there.
    ///
    /// They can be opened by name; a listing shows processes only. A kernel that cannot restrict a
    /// mounted proc to its processes shows the processes alone.
    ///
    /// ```
    /// use cellblock::{Container, Mount, mount::Machine};
    ///
    /// let machine = Machine::new().memory(16 << 30); // 16 GiB
    /// let builder = Container::builder().mount(Mount::proc_with("/proc", machine));
    /// ```
    pub fn proc_with(target: impl Into<PathBuf>, machine: Machine) -> Self {
        Self::new(target.into(), MountKind::Proc(Some(ShownMachine { memory_bytes: machine.memory })))
    }

    /// Puts a file with this content and mode 0644 at `path`. It belongs to the program within a
    /// tmpfs or an overlay, where a reset restores it. Elsewhere it is read-only. The files outside
    /// of every mount share less than 1 MiB. A file cannot be put into a bind mount.
    ///
    /// ```
    /// use cellblock::{Container, Mount};
    ///
    /// let builder = Container::builder().mount(Mount::file("/etc/machine-id", "c0ffee\n"));
    /// ```
    pub fn file(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self::new(path.into(), MountKind::File(Content::Bytes(content.into())))
    }

    /// Mounts any file system that the kernel allows in a user namespace, by its name in
    /// `/proc/filesystems`. The options are those of `mount -o`: an empty value makes a flag, and
    /// `source` names the device.
    pub fn file_system<K: Into<String>, V: Into<String>>(
        name: impl Into<String>,
        target: impl Into<PathBuf>,
        options: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let options = options.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::new(target.into(), MountKind::FileSystem { name: name.into(), options })
    }

    /// Skips this mount if its source does not exist on the host, instead of failing the build.
    pub fn skip_missing(self) -> Self {
        Self { skip_missing: true, ..self }
    }

    /// Its path inside the container.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Refuses an overlay with no layers, with more layers than the kernel takes, or at a place
    /// where a reset could not restore it: within a mount that the reset replaces.
    pub(crate) fn check_overlay(&self, earlier: &[Self]) -> Result<()> {
        let MountKind::Overlay { lowers, .. } = &self.kind else { return Ok(()) };
        let is_around = |mount: &&Self| mount.kind.is_own() && self.target.starts_with(&mount.target);
        if let Some(around) = earlier.iter().find(is_around) {
            let around = around.target.display();
            return Err(Error::invalid(format!("an overlay cannot lie within {around}")).at(&self.target));
        }
        if lowers.is_empty() || lowers.len() > 64 {
            return Err(Error::invalid("an overlay has 1 to 64 lower directories").at(&self.target));
        }
        Ok(())
    }

    /// Refuses a file that the build would make on the host.
    pub(crate) fn check_file(&self, earlier: &[Self]) -> Result<()> {
        let is_around = |mount: &&Self| {
            matches!(mount.kind, MountKind::Bind { access: BindAccess::Writable, .. })
                && self.target.starts_with(&mount.target)
        };
        match (&self.kind, earlier.iter().find(is_around)) {
            (MountKind::File(_), Some(around)) => {
                let around = around.target.display();
                Err(Error::invalid(format!("a file cannot be put into the host's own directory at {around}"))
                    .at(&self.target))
            }
            _ => Ok(()),
        }
    }

    fn from_host(source: PathBuf, target: PathBuf, access: BindAccess) -> Self {
        Self::new(target, MountKind::Bind { source, access })
    }

    pub(crate) fn new(target: PathBuf, kind: MountKind) -> Self {
        Self { target, kind, skip_missing: false }
    }
}

/// Parses a bind mount as command lines have it: `SRC` for the same path inside, `SRC:DST`, or
/// `SRC:DST:rw` for a writable mount. A path cannot contain a colon.
impl FromStr for Mount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match *text.split(':').collect::<Vec<_>>() {
            [path] => Ok(Self::bind(path, path)),
            [source, target] => Ok(Self::bind(source, target)),
            [source, target, "rw"] => Ok(Self::bind_writable(source, target)),
            _ => Err(Error::invalid(format!("a bind mount is SRC, SRC:DST or SRC:DST:rw, and not {text:?}"))),
        }
    }
}
