//! An overlay: read-only directories under a tmpfs that takes every change.
//!
//! Invariant: the lower layers are mounted read-only in a directory of the base, named by their
//! numbers: 0 is at the bottom. They stay there for as long as the container lives, so a reset
//! needs only a new tmpfs. The changes of an overlay that is frozen become one more lower layer.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{fchdir, fchownat};
use rustix::fs::{StatxFlags, Timespec, Timestamps, statx, utimensat};

use crate::init::files::{ROOT, resolve};
use crate::sys::mount::{attach, copy_directory, detach, forbid, restrict_tree};
use crate::wire::{Ids, TmpfsOptions};

use super::base::{Base, NEXT_FROM_LAYERS};
use super::file_systems::new_tmpfs;
use super::snapshot::NewState;

/// The directory, among the layers, of the tmpfs with the changes.
const UPPER: &str = "upper";
/// The directories on that tmpfs.
const CHANGES: &str = "changes";
const WORK: &str = "work";
/// The inodes of that tmpfs that the overlay itself takes: its root, these directories, the
/// kernel's own directory in the latter, and the file that stands for deleted ones.
pub(super) const OWN_INODES: u64 = 5;

/// The layers of an overlay.
pub(super) struct Layers {
    place: OwnedFd,
    lowers: usize,
    is_frozen: bool,
    upper: Option<Upper>,
    root: RootDirectory,
}

/// The tmpfs with the changes.
struct Upper {
    tmpfs: OwnedFd,
    changes: OwnedFd,
    /// The state in which it was made, unless there is no room to tell.
    new: Option<NewState>,
}

/// The attributes of an overlay's root, which are those of its upper layer.
pub(super) struct RootDirectory {
    mode: u32,
    owner: Ids,
    times: Option<Timestamps>,
}

impl Layers {
    /// No layers yet.
    pub(super) fn new(base: &mut Base, root: RootDirectory) -> io::Result<Self> {
        let place = base.new_layers()?;
        mkdirat(&place, UPPER, Mode::S_IRWXU)?;
        Ok(Self { place, lowers: 0, is_frozen: false, upper: None, root })
    }

    /// Puts a detached tree over the lower layers.
    pub(super) fn push(&mut self, tree: &OwnedFd) -> io::Result<()> {
        let name = self.lowers.to_string();
        mkdirat(&self.place, &*name, Mode::S_IRWXU)?;
        restrict_tree(tree, forbid::WRITES | forbid::DEVICES)?;
        attach(tree, resolve(&self.place, Path::new(&name), OFlag::O_PATH, 0)?)?;
        self.lowers += 1;
        Ok(())
    }

    /// Puts what programs or the init have made over the lower layers.
    pub(super) fn push_frozen(&mut self, tree: &OwnedFd) -> io::Result<()> {
        self.is_frozen = true;
        self.push(tree)
    }

    /// Whether a lower layer was pushed as a frozen one.
    pub(super) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Makes a lower layer of the changes. The overlay must be unmounted.
    pub(super) fn freeze_changes(&mut self, root: RootDirectory) -> io::Result<()> {
        let Some(upper) = self.upper.take() else { return Ok(()) };
        let changes = copy_directory(&upper.tmpfs, CHANGES)?;
        detach(&upper.tmpfs)?;
        self.root = root;
        self.push_frozen(&changes)
    }

    /// Whether a program, or the init, has changed the overlay since it was mounted.
    pub(super) fn has_changed(&mut self) -> bool {
        let is_unchanged = |Upper { tmpfs, changes, new }: &mut Upper| {
            new.as_mut().is_some_and(|new| new.check_unchanged(tmpfs, changes))
        };
        !self.upper.as_mut().is_some_and(is_unchanged)
    }

    /// Mounts the overlay with a new upper layer, at the base's place for that.
    pub(super) fn mount(&mut self, base: &Base, upper: TmpfsOptions) -> io::Result<OwnedFd> {
        if let Some(upper) = self.upper.take() {
            detach(&upper.tmpfs)?;
        }
        let tmpfs = self.new_upper(upper)?;
        attach(&tmpfs, resolve(&self.place, Path::new(UPPER), OFlag::O_PATH, 0)?)?;

        let lowers: Vec<_> = (0..self.lowers).rev().map(|number| number.to_string()).collect();
        let options =
            format!("lowerdir={},upperdir={UPPER}/{CHANGES},workdir={UPPER}/{WORK},userxattr", lowers.join(":"));
        // The kernel takes the layers by path. Only this call takes more than 256 bytes of them.
        fchdir(&self.place)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some("overlay"), NEXT_FROM_LAYERS, Some("overlay"), flags, Some(&*options))?;
        let overlay = base.next()?;

        let changes = resolve(&tmpfs, Path::new(CHANGES), OFlag::O_PATH, 0)?;
        let new = NewState::take(upper, &tmpfs, &changes)?;
        self.upper = Some(Upper { tmpfs, changes, new });
        Ok(overlay)
    }

    /// A tmpfs with an empty upper layer, and the overlay's work directory.
    fn new_upper(&self, upper: TmpfsOptions) -> io::Result<OwnedFd> {
        let RootDirectory { mode, owner, times } = &self.root;
        let tmpfs = new_tmpfs(TmpfsOptions { mode: 0o700, ..upper }, ROOT)?;
        for dir in [CHANGES, WORK] {
            mkdirat(&tmpfs, dir, Mode::S_IRWXU)?;
        }
        let (uid, gid) = (Some(owner.uid.into()), Some(owner.gid.into()));
        fchownat(&tmpfs, CHANGES, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        fchmodat(&tmpfs, CHANGES, Mode::from_bits_truncate(*mode), FchmodatFlags::FollowSymlink)?;
        if let Some(times) = times {
            utimensat(&tmpfs, CHANGES, times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(tmpfs)
    }
}

impl RootDirectory {
    pub(super) fn new(mode: u32, owner: Ids) -> Self {
        Self { mode, owner, times: None }
    }

    /// The attributes of this directory.
    pub(super) fn of(dir: &OwnedFd) -> io::Result<Self> {
        let stat = statx(dir, c"", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let [last_access, last_modification] =
            [stat.stx_atime, stat.stx_mtime].map(|time| Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() });
        Ok(Self {
            mode: (stat.stx_mode & 0o7777).into(),
            owner: Ids { uid: stat.stx_uid, gid: stat.stx_gid },
            times: Some(Timestamps { last_access, last_modification }),
        })
    }
}
