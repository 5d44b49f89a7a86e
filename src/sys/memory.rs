//! Files in memory.
//!
//! Invariant: a memfd of this module is sealed before another process gets it. Its content and size
//! never change again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A sealed memfd with this content, at offset 0.
pub(crate) fn sealed(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut memfd = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    memfd.write_all(content)?;
    io::Seek::rewind(&mut memfd)?;
    seal(&memfd)?;
    Ok(memfd.into())
}

/// A sealed, executable copy of a program, for [`clone::spawn`](super::clone::spawn).
pub(crate) fn executable(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    if !source.metadata()?.is_file() {
        return Err(Errno::EACCES.into());
    }
    let mut memfd = new_executable("cellblock-init")?;
    io::copy(&mut source, &mut memfd)?;
    seal(&memfd)?;
    Ok(memfd.into())
}

/// A copy of a sealed memfd, with its mode and its offset. What happens to the copy's mode, times
/// and attributes does not happen to the original.
pub(crate) fn copy_of_sealed(original: impl AsFd) -> io::Result<OwnedFd> {
    let original = original.as_fd();
    let stat = rustix::fs::fstat(original)?;
    let copy = new_executable("cellblock-input")?;
    let (mut copied, size) = (0, stat.st_size as u64);
    while copied < size {
        // By an offset of its own: the original's offset is its caller's.
        let left = (size - copied) as usize;
        if rustix::fs::sendfile(&copy, original, Some(&mut copied), left)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    seal(&copy)?;
    rustix::fs::fchmod(&copy, rustix::fs::Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::seek(&copy, rustix::fs::SeekFrom::Start(rustix::fs::tell(original)?))?;
    Ok(copy.into())
}

fn new_executable(name: &str) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 and later may require the flag (vm.memfd_noexec). Earlier kernels reject it.
    let memfd = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    Ok(memfd.into())
}

/// Whether `fd` is a memfd whose content and size cannot change.
pub(crate) fn is_sealed(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & all_seals().bits() == all_seals().bits())
}

fn seal(memfd: &File) -> io::Result<()> {
    fcntl(memfd, FcntlArg::F_ADD_SEALS(all_seals()))?;
    Ok(())
}

fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}
