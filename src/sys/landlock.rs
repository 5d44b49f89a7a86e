//! Landlock: for what a program may open the files that were passed to it (landlock(7)).
//!
//! A descriptor is a way to its file: `/proc/self/fd` opens the file anew, for everything that the
//! file's mode allows its owner.
//!
//! Invariant: a [`Ruleset`] restricts only reading, writing and truncating, and allows all three
//! for every file beneath the root directory. A file elsewhere belongs to the host, and can be
//! opened only for what a rule allows. Landlock does not reach files without a path, such as pipes
//! and memfds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, FsWord, Mode, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstatfs, openat};

use super::syscall::{raw_syscall, syscall};

/// Whether this kernel supports a [`Ruleset`]. It needs version 3 of Landlock's ABI, of Linux 6.2,
/// which knows truncation.
pub(crate) fn is_supported() -> bool {
    const VERSION: usize = 1;
    // SAFETY: with this flag the call takes a null pointer and the size 0.
    unsafe { raw_syscall(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0]) }.is_ok_and(|version| version >= 3)
}

/// Restricts which files a process and its descendants may open.
#[derive(Debug)]
pub(crate) struct Ruleset(OwnedFd);

impl Ruleset {
    /// Allows each of these files to be opened for what its descriptor is open for. `None` if
    /// Landlock reaches none of them: there is nothing to restrict then.
    pub(crate) fn for_files<'a>(files: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<Option<Self>> {
        let files: Vec<_> = files.filter(|file| may_have_path(*file)).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let ruleset = Self::beneath_root()?;
        let mut is_needed = false;
        for file in files {
            let rights = match fcntl_getfl(file)? & OFlags::RWMODE {
                OFlags::WRONLY => WRITE,
                OFlags::RDWR => READ | WRITE,
                _ => READ,
            };
            is_needed |= ruleset.allow(file, rights)?;
        }
        Ok(is_needed.then_some(ruleset))
    }

    fn beneath_root() -> io::Result<Self> {
        let handled: u64 = READ | WRITE | REFER;
        let arguments = [(&raw const handled) as usize, size_of_val(&handled), 0, 0, 0];
        // SAFETY: the first version of the call's struct is this one number, which outlives the
        // call.
        let fd = unsafe { syscall(libc::SYS_landlock_create_ruleset, arguments) }?;
        // SAFETY: the call returned a new descriptor, which has no other owner.
        let ruleset = Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
        let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        ruleset.allow(root.as_fd(), handled)?;
        Ok(ruleset)
    }

    /// Adds a rule for one file. Returns false if the file has no path, so that no rule is needed.
    fn allow(&self, file: BorrowedFd<'_>, rights: u64) -> io::Result<bool> {
        #[repr(C, packed)]
        struct PathBeneath {
            rights: u64,
            fd: RawFd,
        }
        const PATH_BENEATH: usize = 1;
        let rule = PathBeneath { rights, fd: file.as_raw_fd() };
        let arguments = [self.0.as_raw_fd() as usize, PATH_BENEATH, (&raw const rule) as usize, 0, 0];
        // SAFETY: the struct is the one of this kind of rule, and outlives the call.
        match unsafe { raw_syscall(libc::SYS_landlock_add_rule, arguments) } {
            Ok(_) => Ok(true),
            Err(libc::EBADFD) => Ok(false),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl AsRawFd for Ruleset {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Writing and truncating: both are possible through a descriptor that is open for writing.
const WRITE: u64 = 1 << 1 | 1 << 14;
const READ: u64 = 1 << 2;
/// Renaming and linking between directories. Every ruleset forbids it unless a rule allows it.
const REFER: u64 = 1 << 13;

/// Fast path: pipes, sockets and sealed memfds need no rule. For other files without a path, the
/// kernel refuses the rule.
fn may_have_path(file: BorrowedFd<'_>) -> bool {
    const PIPEFS_MAGIC: FsWord = 0x5049_5045;
    const SOCKFS_MAGIC: FsWord = 0x534F_434B;
    const TMPFS_MAGIC: FsWord = 0x0102_1994;
    match fstatfs(file).map(|fs| fs.f_type) {
        Ok(PIPEFS_MAGIC | SOCKFS_MAGIC) => false,
        Ok(TMPFS_MAGIC) => !fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::WRITE)),
        _ => true,
    }
}
