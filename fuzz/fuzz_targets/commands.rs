//! The init's commands. This executable is the init as well, so that its arithmetic is checked there too; without a sanitizer
//! (`cargo +nightly fuzz run --sanitizer none commands`), which a process does not survive that may make no system call.
#![no_main]

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

/// What libFuzzer counts beside this process's own coverage, by the name of the section.
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static SEEN: [AtomicU8; 4096] = [const { AtomicU8::new(0) }; 4096];

libfuzzer_sys::fuzz_target!(init: cellblock::init(), |script: &[u8]| {
    let see = &mut |what: usize| {
        SEEN[what % SEEN.len()].fetch_add(1, Ordering::Relaxed);
    };
    cellblock::container::fuzzing::commands(Path::new("/proc/self/exe"), script, see);
});
