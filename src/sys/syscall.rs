//! System calls without the C library.
//!
//! Invariant: a call here touches neither errno nor any other memory of the C library. So code that
//! runs in another process's address space can make it.

use std::io;

use syscalls::raw;

/// Makes a system call. `Err` is the kernel's errno.
///
/// # Safety
/// The arguments are what this system call expects, and the memory that they point to is valid for
/// the whole call.
pub(super) unsafe fn raw_syscall(number: libc::c_long, arguments: [usize; 5]) -> Result<usize, i32> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: guaranteed by the caller.
    let value = unsafe { raw::syscall5(number as usize, a, b, c, d, e) } as isize;
    // The kernel returns an error as a number from -4095 to -1.
    if (-4095..0).contains(&value) { Err(-value as i32) } else { Ok(value as usize) }
}

/// Makes a system call, for code that may allocate.
///
/// # Safety
/// As for [`raw_syscall`].
pub(super) unsafe fn syscall(number: libc::c_long, arguments: [usize; 5]) -> io::Result<usize> {
    // SAFETY: guaranteed by the caller.
    unsafe { raw_syscall(number, arguments) }.map_err(io::Error::from_raw_os_error)
}
