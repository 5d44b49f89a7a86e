//! The init's commands. This executable is the init as well, so its arithmetic is checked there
//! too.
//!
//! Run it without a sanitizer (`cargo +nightly fuzz run --sanitizer none commands`): the
//! sanitizer's own system calls would end a process that may make none.
#![no_main]

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

/// Counters that libFuzzer reads beside this process's own coverage. It finds them by the section's
/// name.
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static SEEN: [AtomicU8; 4096] = [const { AtomicU8::new(0) }; 4096];

libfuzzer_sys::fuzz_target!(init: cellblock::init(), |script: &[u8]| {
    let see = &mut |what: usize| {
        SEEN[what % SEEN.len()].fetch_add(1, Ordering::Relaxed);
    };
    cellblock::container::fuzzing::commands(Path::new("/proc/self/exe"), script, see);
});
