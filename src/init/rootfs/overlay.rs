//! An overlay: directories of the host under a tmpfs that takes every change.
//!
//! Invariant: the layers lie on a small tmpfs at the overlay's target, in directories named by
//! their numbers, and the overlay covers them. So a reset finds them there again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{fchdir, fchownat};

use crate::init::files::{ROOT, resolve};
use crate::sys::mount::{attach, forbid, restrict_tree};
use crate::wire::{Ids, TmpfsOptions};

use super::file_systems::{new_layers, new_overlay, new_tmpfs};

/// The directory, among the layers, of the tmpfs with the changes.
pub(super) const UPPER: &str = "upper";
/// The directories on that tmpfs.
const CHANGES: &str = "changes";
const WORK: &str = "work";

/// Attaches the lower layers at an overlay's target, read-only.
pub(super) fn attach_layers(target: &OwnedFd, lowers: &[OwnedFd]) -> io::Result<()> {
    let layers = new_layers()?;
    mkdirat(&layers, UPPER, Mode::S_IRWXU)?;
    // Before the layers: older kernels mount nothing on a detached mount.
    attach(&layers, target)?;
    for (number, lower) in lowers.iter().enumerate() {
        let name = number.to_string();
        mkdirat(&layers, &*name, Mode::S_IRWXU)?;
        restrict_tree(lower, forbid::WRITES | forbid::DEVICES)?;
        attach(lower, resolve(&layers, Path::new(&name), OFlag::O_PATH, 0)?)?;
    }
    Ok(())
}

/// Covers the layers at an overlay's target with the overlay, whose upper layer is new.
pub(super) fn mount_overlay(
    root: &OwnedFd,
    target: &Path,
    lowers: usize,
    upper: TmpfsOptions,
    program: Ids,
) -> io::Result<()> {
    let layers = resolve(root, target.strip_prefix("/").unwrap_or(target), OFlag::O_PATH, 0)?;
    attach(new_upper(upper, program)?, resolve(&layers, Path::new(UPPER), OFlag::O_PATH, 0)?)?;
    // The kernel takes the layers by path.
    fchdir(&layers)?;
    let lowers: Vec<_> = (0..lowers).map(|number| number.to_string()).collect();
    let overlay = new_overlay(&lowers, &format!("{UPPER}/{CHANGES}"), &format!("{UPPER}/{WORK}"))?;
    attach(overlay, layers)?;
    Ok(fchdir(root)?)
}

/// A tmpfs with the upper layer, which belongs to the program, and the overlay's work directory.
fn new_upper(upper: TmpfsOptions, program: Ids) -> io::Result<OwnedFd> {
    let tmpfs = new_tmpfs(TmpfsOptions { mode: 0o700, ..upper }, ROOT)?;
    for dir in [CHANGES, WORK] {
        mkdirat(&tmpfs, dir, Mode::S_IRWXU)?;
    }
    let (uid, gid) = (Some(program.uid.into()), Some(program.gid.into()));
    fchownat(&tmpfs, CHANGES, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    fchmodat(&tmpfs, CHANGES, Mode::from_bits_truncate(upper.mode), FchmodatFlags::FollowSymlink)?;
    Ok(tmpfs)
}
