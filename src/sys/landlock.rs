//! Landlock: what files of a program's may be opened for, whoever owns them (landlock(7)).
//!
//! A descriptor of the program's is a way to its file: `/proc/self/fd` opens that anew, for all that the file's mode lets its
//! owner do.
//!
//! Invariant: a [`Ruleset`] restricts reading, writing and truncating alone, and leaves all that is beneath the root directory
//! as it is. A file elsewhere, which is one of the host's, can be opened for what was allowed. Files that no directory leads
//! to, such as pipes and memfds, are beyond Landlock.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, FsWord, Mode, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstatfs, openat};

use super::raw_syscall;

/// Whether this kernel has what a [`Ruleset`] is made of: version 3 of the ABI, Linux 6.2's, which knows truncation.
pub(crate) fn is_supported() -> bool {
    const VERSION: usize = 1;
    // SAFETY: a null pointer and its size, with the flag that asks for them.
    unsafe { raw_syscall(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0]) }.is_ok_and(|version| version >= 3)
}

/// What a process may open, and what it starts.
#[derive(Debug)]
pub(crate) struct Ruleset(OwnedFd);

impl Ruleset {
    /// Allows to open each of these files for what its descriptor is open for. `None` where none of them is within
    /// Landlock's reach, so that there is nothing to restrict.
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
        // SAFETY: the first version's struct, which is this number; it outlives the call.
        let fd = unsafe { raw_syscall(libc::SYS_landlock_create_ruleset, arguments) };
        let fd = fd.map_err(io::Error::from_raw_os_error)?;
        // SAFETY: a value that is no error is a new fd that nobody else owns.
        let ruleset = Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
        let root = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        ruleset.allow(root.as_fd(), handled)?;
        Ok(ruleset)
    }

    /// False where the file has no path.
    fn allow(&self, file: BorrowedFd<'_>, rights: u64) -> io::Result<bool> {
        #[repr(C, packed)]
        struct PathBeneath {
            rights: u64,
            fd: RawFd,
        }
        const PATH_BENEATH: usize = 1;
        let rule = PathBeneath { rights, fd: file.as_raw_fd() };
        let arguments = [self.0.as_raw_fd() as usize, PATH_BENEATH, (&raw const rule) as usize, 0, 0];
        // SAFETY: the struct is that of this kind of rule, and outlives the call.
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

/// With the truncation that either open file can do.
const WRITE: u64 = 1 << 1 | 1 << 14;
const READ: u64 = 1 << 2;
/// Renaming and linking from one directory to another, which every ruleset forbids unless it is allowed.
const REFER: u64 = 1 << 13;

/// False for what is given most, and can be told at little cost: pipes, sockets and sealed memfds. What else has no path is
/// found out by asking.
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
