//! The tmpfs that the init's root file system stands on, which no program reaches.
//!
//! Invariant: the programs' "/" is mounted in the base, and pid 1 has made it its own root
//! directory. So nothing else in the base has a path that leads there: neither the layers of
//! overlays nor a file system that is being made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};

use crate::init::files::resolve;
use crate::sys::mount::{attach, copy_directory};

/// Where the programs' "/" is mounted.
const ROOT: &str = "root";
/// Where a file system is mounted until it takes its place.
const NEXT: &str = "next";
/// The directories with the layers of overlays, named by their numbers.
const LAYERS: &str = "layers";
/// [`NEXT`], as seen from a directory with layers.
pub(super) const NEXT_FROM_LAYERS: &str = "../../next";

pub(super) struct Base {
    dir: OwnedFd,
    overlays: u32,
}

impl Base {
    /// Makes the base's directories on an empty tmpfs.
    pub(super) fn make(dir: OwnedFd) -> nix::Result<Self> {
        mkdirat(&dir, ROOT, Mode::from_bits_truncate(0o755))?;
        for name in [NEXT, LAYERS] {
            mkdirat(&dir, name, Mode::S_IRWXU)?;
        }
        Ok(Self { dir, overlays: 0 })
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// A detached mount of an empty directory, for a "/" that consists of mounts alone.
    pub(super) fn empty_root(&self) -> io::Result<OwnedFd> {
        copy_directory(self.dir.as_fd(), ROOT)
    }

    /// The place of the programs' "/". Nothing may be mounted there.
    pub(super) fn root(&self) -> nix::Result<OwnedFd> {
        self.open(ROOT)
    }

    /// The place of a file system that is being made or, once it is mounted, that file system.
    pub(super) fn next(&self) -> nix::Result<OwnedFd> {
        self.open(NEXT)
    }

    /// Attaches a detached mount at that place.
    pub(super) fn attach_next(&self, mount: &OwnedFd) -> io::Result<()> {
        attach(mount, self.next()?)
    }

    /// A new directory for the layers of an overlay.
    pub(super) fn new_layers(&mut self) -> nix::Result<OwnedFd> {
        let path = format!("{LAYERS}/{}", self.overlays);
        self.overlays += 1;
        mkdirat(&self.dir, &*path, Mode::S_IRWXU)?;
        self.open(&path)
    }

    fn open(&self, path: &str) -> nix::Result<OwnedFd> {
        resolve(&self.dir, Path::new(path), OFlag::O_PATH, 0)
    }
}
