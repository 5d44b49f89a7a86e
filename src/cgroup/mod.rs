//! Control groups of the runs: found by looking, made for a container, removed with it.
//!
//! The init of a container stays outside of its runs' group, so that what a run is limited to never touches it.
//!
//! Invariant: every directory made here is locked by its maker for as long as that lives, and removed when its value is
//! dropped. One that nobody holds a lock on was left by a host that died, and whoever looks next removes it.

mod proc_cgroup;
mod v1;
mod v2;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Failure, Step};
use crate::limits::{GroupLimits, Groups};
use crate::sys::in_background;
use crate::wire::{self, Counter, Figure, GroupFile, Ids, Measurement};

pub(crate) use proc_cgroup::ProcCgroup;

/// Where this process may make groups.
#[derive(Debug)]
pub(crate) enum Hierarchy {
    V1(v1::Hierarchies),
    V2(v2::Tree),
}

impl Hierarchy {
    /// Looks where this process may make groups, and removes those that a dead host left there. What was found is
    /// remembered.
    pub(crate) fn find() -> io::Result<Option<Arc<Self>>> {
        static FOUND: Mutex<Option<Arc<Hierarchy>>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_none() {
            let read = |path| match fs::read_to_string(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                text => text.map(Some),
            };
            let groups = read("/proc/self/cgroup")?.zip(read("/proc/self/mountinfo")?);
            // There may be no proc, or a kernel without control groups.
            let Some((groups, mountinfo)) = groups else { return Ok(None) };
            let own = ProcCgroup::parse(&groups, &mountinfo);
            let hierarchies = v1::Hierarchies::find(&own).map(Self::V1);
            *found = hierarchies.or_else(|| v2::Tree::find(&own).map(Self::V2)).map(Arc::new);
        }
        Ok(found.clone())
    }

    pub(crate) fn grants(&self) -> Groups {
        match self {
            Self::V1(hierarchies) => hierarchies.grants(),
            Self::V2(tree) => tree.grants(),
        }
    }
}

/// The group of one container's runs.
#[derive(Debug)]
pub(crate) enum Group {
    V1(v1::Group),
    V2(v2::Group),
}

impl Drop for Group {
    /// Its processes are being killed.
    fn drop(&mut self) {
        self.lift_rate();
    }
}

/// What the init is to be told of a group.
pub(crate) type Joined = (wire::GroupFiles, Vec<Arc<OwnedFd>>);

impl Group {
    pub(crate) fn new(hierarchy: Arc<Hierarchy>) -> Result<Self, Failure> {
        match &*hierarchy {
            Hierarchy::V1(_) => Ok(Self::V1(v1::Group::new(hierarchy))),
            Hierarchy::V2(tree) => Ok(Self::V2(v2::Group::new(tree)?)),
        }
    }

    /// Lets an init that has these ids on the host put its runs there.
    pub(crate) fn give(&mut self, init: Ids) -> Result<(), Failure> {
        match self {
            // There runs enter by files that this process has opened.
            Self::V1(_) => Ok(()),
            Self::V2(group) => group.give(init),
        }
    }

    /// The group that the init is to be cloned into, where that is so.
    pub(crate) fn of_init(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::V1(_) => None,
            Self::V2(group) => Some(group.of_init()),
        }
    }

    /// Makes the group ready for a run with these limits. Gives what the init is to be told, where something is new.
    pub(crate) fn prepare(&mut self, limits: &GroupLimits) -> Result<Option<Joined>, Failure> {
        match self {
            Self::V1(group) => group.prepare(limits),
            Self::V2(group) => group.prepare(limits),
        }
    }

    /// Learns what a run has used: what its group cannot count anew makes the group too old for the next.
    pub(crate) fn ran(&mut self, measured: &Measurement) {
        let peak = measured.group.as_ref().and_then(|figures| figures.processes_peak);
        // Every run has one process at least, so a peak of 1 is the next run's own.
        if peak.is_some_and(|peak| peak > 1) {
            self.renew();
        }
    }

    /// Takes away the CPU rate. What is killed dies no sooner than it may use a processor again: a process in the kernel runs up a
    /// debt of time that the others pay, for minutes.
    pub(crate) fn lift_rate(&self) {
        let lifted = match self {
            Self::V1(group) => group.lift_rate(),
            Self::V2(group) => group.lift_rate(),
        };
        match lifted {
            // Somebody has removed it.
            Ok(()) | Err(Failure { errno: libc::ENOENT | libc::ENODEV, .. }) => {}
            // The container is at its end, and nobody is left to be told.
            Err(failure) => eprintln!("cellblock: what was killed may be slow to die: {failure}"),
        }
    }

    /// Removes what there is. `EBUSY` where the last processes are still on their way out: try again.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self {
            Self::V1(group) => group.directories().try_for_each(|directory| remove(&directory.path)),
            Self::V2(group) => remove(&group.directory().path),
        }
    }

    /// Lets the next run have everything anew, where something is gone that was there.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::V1(group) => group.forget(),
            Self::V2(group) => group.renew(),
        }
    }

    /// Lets the next run have a new group, as far as what earlier ones left stays charged.
    pub(crate) fn renew(&mut self) {
        match self {
            Self::V1(group) => group.renew(),
            Self::V2(group) => group.renew(),
        }
    }
}

const PREFIX: &str = "cellblock-runs-";

/// A group's directory that was made here. Its drop removes it, with what is below, once it is empty.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Says that somebody is alive to whom it belongs.
    _lock: File,
}

impl Directory {
    fn make(parent: &Path) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            let made = fs::create_dir(&path).and_then(|()| {
                let lock = File::open(&path)?;
                flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
                Ok(lock)
            });
            match made {
                // Somebody who looked for what dead hosts left may have taken it before it was locked.
                Ok(_) if !path.exists() => {}
                Ok(lock) => return Ok(Self { path, _lock: lock }),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EWOULDBLOCK)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && parent.exists() => {}
                Err(error) => return Err(Failure::at(Step::MakeGroup, path, error)),
            }
        }
    }

    fn set(&self, file: &str, value: impl ToString) -> Result<(), Failure> {
        set(&self.path.join(file), value)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if remove(&self.path).is_ok() {
            return;
        }
        let path = self.path.clone();
        in_background(move || {
            // The last processes are on their way out of it.
            for _ in 0..1000 {
                if remove(&path).is_ok() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            remove(&path)
        });
    }
}

/// Removes a group and those below it. One that is gone already is no error.
fn remove(path: &Path) -> io::Result<()> {
    let remove_itself = || match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    match remove_itself() {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        removed => return removed,
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    remove_itself()
}

/// Removes the groups in this directory that belonged to a host that has died.
fn remove_left_behind(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
        let is_left = File::open(entry.path())
            .is_ok_and(|directory| flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok());
        if is_left {
            // What has processes in it stays, and is found again by the next one that looks.
            remove(&entry.path()).ok();
        }
    }
}

fn set(file: &Path, value: impl ToString) -> Result<(), Failure> {
    // Without O_CREAT and O_TRUNC, which such files do not know.
    let write = || io::Write::write_all(&mut OpenOptions::new().write(true).open(file)?, value.to_string().as_bytes());
    write().map_err(|error| Failure::at(Step::LimitGroup, file, error))
}

/// Collects a group's files for the init.
#[derive(Debug, Default)]
struct Files {
    kinds: Vec<GroupFile>,
    fds: Vec<Arc<OwnedFd>>,
}

impl Files {
    fn add(&mut self, kind: GroupFile, path: &Path, options: &OpenOptions) -> io::Result<()> {
        self.fds.push(Arc::new(options.open(path)?.into()));
        self.kinds.push(kind);
        Ok(())
    }

    /// A figure; one that this kernel does not count here is left out.
    fn count(&mut self, figure: Figure, path: &Path, key: &str, unit: u32) -> io::Result<()> {
        let has_key = |line: &str| line.split(' ').next() == Some(key);
        if !key.is_empty() {
            match fs::read_to_string(path) {
                Ok(text) if text.lines().any(has_key) => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return Ok(()),
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(figure == Figure::MemoryPeakSinceReset);
        match self.add(GroupFile::Counter(Counter { figure, key: key.to_owned(), unit }), path, &options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            added => added,
        }
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(path)?.into())
}

fn may_write(path: &Path) -> bool {
    nix::unistd::eaccess(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
mod tests;
