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
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 and later may require the flag (vm.memfd_noexec). Earlier kernels reject it.
    let memfd = match memfd_create("cellblock-init", flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create("cellblock-init", flags)?,
        other => other?,
    };
    let mut memfd = File::from(memfd);
    io::copy(&mut source, &mut memfd)?;
    seal(&memfd)?;
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
