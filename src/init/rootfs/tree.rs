//! The mounts of a container, attached: the tree whose root is the programs' "/".
//!
//! Invariant: each mount is known by a descriptor, never by its path. Programs may rename the
//! directories on the way to a mount and put others there; the mount is still the same one. When a
//! mount is replaced, those directly below it move to the new one, with everything below them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::unistd::{chroot, fchdir};

use crate::error::{Failure, ResultExt, Step};
use crate::init::files::ROOT;
use crate::sys::mount::{attach, copy_mount_of, detach};
use crate::wire::{Ids, MountEntry, MountKind, RawFileSystem, TmpfsOptions};

use super::base::Base;
use super::file_systems::new_tmpfs;
use super::machine_proc::{ProcLinks, machine_proc};
use super::mounts::{cover_of, is_directory, make_place, restrict_bind};
use super::overlay::{Layers, OWN_INODES, RootDirectory};
use super::snapshot::{NewState, Snapshot};

pub(super) struct MountTree {
    base: Base,
    program: Ids,
    /// In the order in which they were attached. The first is the root.
    mounts: Vec<Mounted>,
    _proc_links: Vec<ProcLinks>,
}

struct Mounted {
    target: PathBuf,
    /// The mount that it is attached to. `None`: the base, or one that never changes.
    parent: Option<usize>,
    mount: OwnedFd,
    is_directory: bool,
    own: Option<OwnFileSystem>,
}

/// A file system that belongs to the container: programs write to it, and a reset makes it new.
struct OwnFileSystem {
    /// Of the tmpfs or, for an overlay, of its upper layer.
    options: TmpfsOptions,
    kind: OwnKind,
}

enum OwnKind {
    /// It is empty when it is new. The state in which it was made, unless there is no room to tell.
    Tmpfs(Option<NewState>),
    Overlay(Layers),
}

/// What was taken away. Its drop frees what programs left there, which takes a while for many
/// files.
#[derive(Default)]
pub(crate) struct Discarded {
    file_systems: Vec<OwnedFd>,
}

/// The numbers of the mounts that a reset has replaced.
#[derive(Default)]
pub(super) struct Replaced(Vec<usize>);

impl MountTree {
    /// Attaches the root: an overlay if that is what is mounted at "/", or else an empty directory.
    pub(super) fn new(mut base: Base, program: Ids, root: Option<(&MountEntry, &[OwnedFd])>) -> Result<Self, Failure> {
        let (mount, own) = match root {
            Some((entry, trees)) => make(entry, trees, program, &mut base),
            None => base.empty_root().map(|root| (root, None)),
        }
        .step_at(Step::MountRoot, "/")?;
        base.root().map_err(io::Error::from).and_then(|place| attach(&mount, place)).step_at(Step::MountRoot, "/")?;
        let root = Mounted { target: "/".into(), parent: None, mount, is_directory: true, own };
        Ok(Self { base, program, mounts: vec![root], _proc_links: Vec::new() })
    }

    pub(super) fn base(&self) -> &OwnedFd {
        self.base.dir()
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.mounts[0].mount
    }

    /// Makes the tree's root the root directory of this process and of its later children.
    pub(super) fn enter_root(&self) -> Result<(), Failure> {
        enter(self.root()).step_at(Step::EnterRoot, "/")
    }

    /// Attaches a mount at its target, and makes the place for it.
    pub(super) fn attach(&mut self, entry: &MountEntry, trees: &[OwnedFd]) -> Result<(), Failure> {
        if let MountKind::Proc(Some(machine)) = &entry.kind {
            let (proc, links) = machine_proc(&self.base, *machine).step_at(Step::Mount, &entry.target)?;
            self._proc_links.push(links);
            return self.add(&entry.target, proc, None);
        }
        let (mount, own) = make(entry, trees, self.program, &mut self.base).step_at(Step::Mount, &entry.target)?;
        self.add(&entry.target, mount, own)
    }

    /// Hides what is at a path, if anything is.
    pub(super) fn hide(&mut self, path: &Path) -> Result<(), Failure> {
        let around = &self.mounts[self.around(path)];
        match cover_of(&around.mount, relative(path, &around.target))? {
            Some(cover) => self.add(path, cover, None),
            None => Ok(()),
        }
    }

    fn add(&mut self, target: &Path, mount: OwnedFd, own: Option<OwnFileSystem>) -> Result<(), Failure> {
        let is_directory = is_directory(&mount).step_at(Step::Mount, target)?;
        let parent = self.around(target);
        let place = self.place_in(&self.mounts[parent].mount, parent, target, is_directory)?;
        attach(&mount, place).step_at(Step::Mount, target)?;
        self.mounts.push(Mounted { target: target.to_owned(), parent: Some(parent), mount, is_directory, own });
        Ok(())
    }

    /// Forgets the mounts that nothing can change: no reset moves them, or needs a place in them.
    pub(super) fn forget_fixed(&mut self) {
        let is_own: Vec<_> = self.mounts.iter().map(|mount| mount.own.is_some()).collect();
        let is_in_own = |mount: &Mounted| mount.parent.is_some_and(|parent| is_own[parent]);
        let holds_own = |index: usize| self.mounts.iter().any(|it| it.own.is_some() && it.parent == Some(index));
        let is_kept = |(index, mount): (usize, &Mounted)| {
            index == 0 || mount.own.is_some() || is_in_own(mount) || holds_own(index)
        };
        let kept: Vec<_> = self.mounts.iter().enumerate().map(is_kept).collect();
        let new_index = |old: usize| kept[old].then(|| kept[..old].iter().filter(|kept| **kept).count());
        for mount in &mut self.mounts {
            mount.parent = mount.parent.and_then(new_index);
        }
        let mut kept = kept.iter();
        self.mounts.retain(|_| kept.next() == Some(&true));
    }

    /// The mount that a path leads to: the nearest around it that no later one covers.
    fn around(&self, path: &Path) -> usize {
        let mut found: usize = 0;
        for (index, mount) in self.mounts.iter().enumerate().skip(1) {
            let is_nearer = mount.target.starts_with(&self.mounts[found].target);
            let covers_it = self.mounts[found].target.starts_with(&mount.target);
            if path.starts_with(&mount.target) && (is_nearer || covers_it) {
                found = index;
            }
        }
        found
    }

    /// Whether programs can write to the file system at a path, and a reset makes it new.
    pub(super) fn is_own(&self, path: &Path) -> bool {
        self.mounts[self.around(path)].own.is_some()
    }

    /// Whether a path is in the root itself, and that is an overlay.
    pub(super) fn is_in_root(&self, path: &Path) -> bool {
        self.around(path) == 0 && self.mounts[0].own.is_some()
    }

    /// Replaces every own file system that has changed by a new one.
    pub(super) fn reset(&mut self) -> Result<(Discarded, Replaced), Failure> {
        let (mut discarded, mut replaced) = (Discarded::default(), Replaced::default());
        for index in 0..self.mounts.len() {
            if self.mounts[index].has_changed() {
                self.renew(index, &mut discarded)?;
                replaced.0.push(index);
            }
        }
        Ok((discarded, replaced))
    }

    /// Whether what the init has made at this path is gone: its file system was replaced, and the
    /// new one is empty.
    pub(super) fn is_lost(&self, path: &Path, Replaced(replaced): &Replaced) -> bool {
        replaced.contains(&self.around(path)) && !self.is_frozen(path)
    }

    /// Makes the present state of every own file system that has changed the state that a reset
    /// restores.
    pub(super) fn freeze(&mut self) -> Result<Discarded, Failure> {
        let mut discarded = Discarded::default();
        for index in 0..self.mounts.len() {
            self.freeze_one(index, &mut discarded)?;
        }
        Ok(discarded)
    }

    /// As [`freeze`](Self::freeze), for the root alone: what the init has made there to attach
    /// mounts is then nothing that a reset has to remove.
    pub(super) fn freeze_root(&mut self) -> Result<Discarded, Failure> {
        let mut discarded = Discarded::default();
        self.freeze_one(0, &mut discarded)?;
        Ok(discarded)
    }

    /// Whether the state that a reset restores at this path is a frozen one.
    pub(super) fn is_frozen(&self, path: &Path) -> bool {
        let own = self.mounts[self.around(path)].own.as_ref();
        own.is_some_and(|own| matches!(&own.kind, OwnKind::Overlay(layers) if layers.is_frozen()))
    }

    /// The state of every own file system.
    pub(super) fn fingerprints(&self) -> Result<Vec<RawFileSystem>, Failure> {
        let own = self.mounts.iter().filter(|mount| mount.own.is_some());
        own.map(|Mounted { mount, target, .. }| {
            Ok(Snapshot::take(mount, target).step_at(Step::TakeFingerprint, target)?.into_state())
        })
        .collect()
    }

    fn freeze_one(&mut self, index: usize, discarded: &mut Discarded) -> Result<(), Failure> {
        if !self.mounts[index].has_changed() {
            return Ok(());
        }
        let target = self.mounts[index].target.clone();
        let root = RootDirectory::of(&self.mounts[index].mount).step_at(Step::Freeze, &target)?;
        match &self.mounts[index].own {
            Some(OwnFileSystem { kind: OwnKind::Overlay(_), .. }) => self.freeze_overlay(index, root)?,
            _ => self.freeze_tmpfs(index, root).step_at(Step::Freeze, &target)?,
        }
        self.renew(index, discarded)
    }

    /// Makes a tmpfs the lower layer of an overlay, which is to take its place.
    fn freeze_tmpfs(&mut self, index: usize, root: RootDirectory) -> io::Result<()> {
        let Mounted { mount, own, .. } = &mut self.mounts[index];
        let Some(own) = own else { return Ok(()) };
        let mut layers = Layers::new(&mut self.base, root)?;
        layers.push_frozen(&copy_mount_of(mount)?)?;
        own.kind = OwnKind::Overlay(layers);
        if own.options.inodes > 0 {
            own.options.inodes = own.options.inodes.saturating_add(OWN_INODES);
        }
        Ok(())
    }

    /// Makes the changes of an overlay its highest lower layer. An empty tmpfs stands in for the
    /// overlay: the kernel takes no directory as a layer of two overlays at once.
    fn freeze_overlay(&mut self, index: usize, root: RootDirectory) -> Result<(), Failure> {
        let target = self.mounts[index].target.clone();
        let stand_in = new_tmpfs(TmpfsOptions { bytes: 0, inodes: 0, mode: 0o755 }, ROOT)
            .and_then(|stand_in| self.base.attach_next(&stand_in).map(|()| stand_in));
        drop(self.replace(index, stand_in.step_at(Step::Freeze, &target)?)?);
        match &mut self.mounts[index].own {
            Some(OwnFileSystem { kind: OwnKind::Overlay(layers), .. }) => {
                layers.freeze_changes(root).step_at(Step::Freeze, &target)
            }
            _ => Ok(()),
        }
    }

    /// Replaces an own file system by a new one.
    fn renew(&mut self, index: usize, discarded: &mut Discarded) -> Result<(), Failure> {
        let Mounted { target, own, .. } = &mut self.mounts[index];
        let Some(own) = own else { return Ok(()) };
        let new = own.make(&self.base, self.program).step_at(Step::Mount, &*target)?;
        let old = self.replace(index, new)?;
        discarded.file_systems.push(old);
        Ok(())
    }

    /// Puts the mount at the base's place for the next one in the place of this one, and the mounts
    /// directly below into it. Returns the old one, detached.
    fn replace(&mut self, index: usize, new: OwnedFd) -> Result<OwnedFd, Failure> {
        let Mounted { target, parent, mount, .. } = &self.mounts[index];
        for child in &self.mounts {
            if child.parent == Some(index) {
                let place = self.place_in(&new, index, &child.target, child.is_directory)?;
                attach(&child.mount, place).step_at(Step::Mount, &child.target)?;
            }
        }
        detach(mount).step_at(Step::Unmount, target)?;
        fchdir(self.base.dir()).step_at(Step::ChangeDirectory, target)?;
        let place = match parent {
            None => self.base.root().step_at(Step::Mount, target)?,
            Some(parent) => self.place_in(&self.mounts[*parent].mount, *parent, target, true)?,
        };
        attach(&new, place).step_at(Step::Mount, target)?;
        if index == 0 {
            enter(&new).step_at(Step::EnterRoot, target)?;
        }
        Ok(std::mem::replace(&mut self.mounts[index].mount, new))
    }

    /// The place for a mount within `mount`, which is or is to become the mount of this number.
    fn place_in(&self, mount: &OwnedFd, number: usize, target: &Path, is_directory: bool) -> Result<OwnedFd, Failure> {
        make_place(mount, relative(target, &self.mounts[number].target), is_directory)
    }
}

impl Mounted {
    /// Whether a program, or the init, has changed the file system since it was made, as far as it
    /// belongs to the container.
    fn has_changed(&mut self) -> bool {
        match self.own.as_mut().map(|own| &mut own.kind) {
            None => false,
            Some(OwnKind::Tmpfs(new)) => !new.as_mut().is_some_and(|new| new.check_unchanged(&self.mount, &self.mount)),
            Some(OwnKind::Overlay(layers)) => layers.has_changed(),
        }
    }
}

impl OwnFileSystem {
    /// Makes it anew, attached at the base's place for the next mount.
    fn make(&mut self, base: &Base, program: Ids) -> io::Result<OwnedFd> {
        match &mut self.kind {
            OwnKind::Overlay(layers) => layers.mount(base, self.options),
            OwnKind::Tmpfs(new) => {
                let tmpfs = new_tmpfs(self.options, program)?;
                base.attach_next(&tmpfs)?;
                *new = NewState::take(self.options, &tmpfs, &tmpfs)?;
                Ok(tmpfs)
            }
        }
    }
}

/// Makes a mount of its trees, detached or at the base's place for the next one.
fn make(
    entry: &MountEntry,
    trees: &[OwnedFd],
    program: Ids,
    base: &mut Base,
) -> io::Result<(OwnedFd, Option<OwnFileSystem>)> {
    let mut own = match (&entry.kind, trees) {
        (MountKind::Tmpfs(options), _) => OwnFileSystem { options: *options, kind: OwnKind::Tmpfs(None) },
        (MountKind::Overlay { upper, .. }, lowers) => {
            let mut layers = Layers::new(base, RootDirectory::new(upper.mode, program))?;
            // The first is on top.
            lowers.iter().rev().try_for_each(|lower| layers.push(lower))?;
            OwnFileSystem { options: *upper, kind: OwnKind::Overlay(layers) }
        }
        (kind, [tree]) => {
            if let MountKind::Bind { access, .. } = kind {
                restrict_bind(tree, *access)?;
            }
            return Ok((tree.try_clone()?, None));
        }
        _ => return Err(io::Error::from_raw_os_error(libc::EBADMSG)),
    };
    Ok((own.make(base, program)?, Some(own)))
}

/// A path relative to one that it starts with.
fn relative<'a>(path: &'a Path, around: &Path) -> &'a Path {
    path.strip_prefix(around).unwrap_or(path)
}

/// Makes a directory the root directory of this process, and its working directory.
fn enter(root: &OwnedFd) -> io::Result<()> {
    fchdir(root)?;
    Ok(chroot(".")?)
}
