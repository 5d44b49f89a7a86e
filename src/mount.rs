//! What a container's file system is made of.
//!
//! Invariant: a [`Mount`] is complete before it is sent. The init adds nothing to it but the program's ids.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::wire::{BindAccess, MountKind, TmpfsOptions};

/// One mount of a container's root file system. The target is made where it is missing, inside the container only.
///
/// Every mount is `nosuid`, and every one but [`device`](Self::device) is `nodev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub(crate) target: PathBuf,
    pub(crate) kind: MountKind,
    pub(crate) skip_missing: bool,
}

/// A tmpfs that belongs to the program's uid, and how much it may hold.
///
/// Default: 64 MiB, 16 384 inodes (files, directories and links), mode 0755.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Sets how many bytes it may hold, rounded up to whole pages by the kernel. 0 means no limit.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Sets how many inodes it may hold. 0 means no limit, and a reset then takes as long as a program cares to make it.
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

impl Mount {
    /// The host's `source`, a file or directory, at `target`: read-only all the way down, submounts included.
    ///
    /// The source is resolved by the host, with the host's rights, when the container is built; a relative one starts
    /// at the host's working directory.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::from_host(source.into(), target.into(), BindAccess::ReadOnly)
    }

    /// As [`bind`](Self::bind), but writable as far as the container's ids may write there.
    pub fn bind_writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::from_host(source.into(), target.into(), BindAccess::Writable)
    }

    /// A device node of the host, at the same path inside.
    pub fn device(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::from_host(path.clone(), path, BindAccess::Device)
    }

    /// A tmpfs, writable by the program, and made anew by each reset.
    pub fn tmpfs(target: impl Into<PathBuf>, tmpfs: Tmpfs) -> Self {
        Self::new(target.into(), MountKind::Tmpfs(tmpfs.into()))
    }

    /// Directories of the host, the first on top, under a tmpfs that takes every change: a prepared tree that a program
    /// may write to as if it were its own, and that each reset brings back. `upper` bounds the changes, of which a file
    /// that is written to counts whole.
    ///
    /// Sources are resolved as those of [`bind`](Self::bind). What belongs to the owner of a source directory belongs to
    /// the program; other files belong to nobody inside, and so does everything where the source's file system cannot show
    /// other owners (mount_setattr(2), `MOUNT_ATTR_IDMAP`; needs Linux 5.19 under an overlay). What is mounted
    /// within a source is left out, and must not be there at all for a host without CAP_SYS_ADMIN.
    ///
    /// At most 64 directories. The target must not lie within a tmpfs or another overlay.
    pub fn overlay<P: Into<PathBuf>>(
        lowers: impl IntoIterator<Item = P>,
        target: impl Into<PathBuf>,
        upper: Tmpfs,
    ) -> Self {
        let lowers = lowers.into_iter().map(Into::into).collect();
        Self::new(target.into(), MountKind::Overlay { lowers, upper: upper.into() })
    }

    /// A read-only proc of the container's pid namespace that shows processes of the program's own and nothing else
    /// (`subset=pid,hidepid=invisible`: no `/proc/sys`, no `/proc/meminfo`).
    pub fn proc(target: impl Into<PathBuf>) -> Self {
        Self::new(target.into(), MountKind::Proc)
    }

    /// Any file system that the kernel lets a user namespace mount, by its name in `/proc/filesystems`, with options as
    /// in `mount -o`: an empty value is a flag, and `source` names what is mounted.
    pub fn file_system<K: Into<String>, V: Into<String>>(
        name: impl Into<String>,
        target: impl Into<PathBuf>,
        options: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let options = options.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::new(target.into(), MountKind::FileSystem { name: name.into(), options })
    }

    /// Leaves this mount out where its source does not exist on the host, instead of failing the build.
    pub fn skip_missing(self) -> Self {
        Self { skip_missing: true, ..self }
    }

    /// Where it is inside the container.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The mounts of a container that names none: what `/bin/sh`, a C compiler and Python of the host need to run.
    ///
    /// Read-only from the host: `/usr`, `/bin`, `/sbin`, `/lib*`, the loader's and the alternatives' files of `/etc`,
    /// and the devices null, zero, full, random and urandom. Beside them `/proc`, and `tmpfs` twice: on `/w` and, with
    /// mode 1777, on `/tmp`.
    pub fn defaults(tmpfs: Tmpfs) -> Vec<Self> {
        let system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
        let settings = ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf"]
            .map(|name| Path::new("/etc").join(name));
        let devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
        let bind = |path: PathBuf| Self::bind(path.clone(), path).skip_missing();
        let mut mounts: Vec<_> = system.map(PathBuf::from).into_iter().chain(settings).map(bind).collect();
        mounts.extend(devices.map(Self::device));
        mounts.push(Self::proc("/proc"));
        mounts.push(Self::tmpfs("/w", tmpfs));
        mounts.push(Self::tmpfs("/tmp", tmpfs.mode(0o1777)));
        mounts
    }

    /// Refuses an overlay that could not be made anew by a reset, being within something that goes, or could not be named to
    /// the kernel.
    pub(crate) fn check_overlay(&self, earlier: &[Self]) -> Result<()> {
        let MountKind::Overlay { lowers, .. } = &self.kind else { return Ok(()) };
        let is_remade = |mount: &&Self| matches!(mount.kind, MountKind::Tmpfs(_) | MountKind::Overlay { .. });
        if let Some(around) = earlier.iter().filter(is_remade).find(|mount| self.target.starts_with(&mount.target)) {
            let around = around.target.display();
            return Err(Error::invalid(format!("an overlay cannot lie within {around}")).at(&self.target));
        }
        if lowers.is_empty() || lowers.len() > 64 {
            return Err(Error::invalid("an overlay has 1 to 64 lower directories").at(&self.target));
        }
        Ok(())
    }

    fn from_host(source: PathBuf, target: PathBuf, access: BindAccess) -> Self {
        Self::new(target, MountKind::Bind { source, access })
    }

    fn new(target: PathBuf, kind: MountKind) -> Self {
        Self { target, kind, skip_missing: false }
    }
}

/// A bind mount as command lines have it: `SRC` at the same path, `SRC:DST`, or `SRC:DST:rw` for a writable one. A path
/// with a colon cannot be said so.
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
