//! The kernel's side of the house, and its only `unsafe`.
//!
//! Invariant: what leaves this module is safe to call. A file descriptor is an `OwnedFd` from the moment it exists, and
//! closes on exec.
#![allow(unsafe_code)]

pub(crate) mod child;
pub(crate) mod clone;
pub(crate) mod kernel;
pub(crate) mod landlock;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod mountinfo;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod reactor;
pub(crate) mod socket;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use syscalls::raw;

/// Does what must be done after its owner has gone, where there may be no runtime any more.
pub(crate) fn in_background(work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let work = move || {
        if let Err(error) = work() {
            // Nobody is left to be told.
            eprintln!("cellblock: something could not be cleared away: {error}");
        }
    };
    // A thread that cannot be had does not give back what it was to do.
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let theirs = Arc::clone(&work);
    let thread = std::thread::Builder::new().name("cellblock-reaper".into()).stack_size(256 << 10);
    if thread
        .spawn(move || {
            if let Some(work) = take(&theirs) {
                work()
            }
        })
        .is_ok()
    {
        return;
    }
    if let Some(work) = take(&work) {
        work();
    }
}

/// A system call that touches neither errno nor any other memory of the C library's, for code that runs in somebody
/// else's address space.
///
/// # Safety
/// As for the system call itself: the arguments are those it expects, and what they point to is alive.
unsafe fn raw_syscall(number: libc::c_long, arguments: [usize; 5]) -> Result<usize, i32> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the caller's.
    let value = unsafe { raw::syscall5(number as usize, a, b, c, d, e) } as isize;
    // The kernel answers errors as -4095 to -1.
    if (-4095..0).contains(&value) { Err(-value as i32) } else { Ok(value as usize) }
}
