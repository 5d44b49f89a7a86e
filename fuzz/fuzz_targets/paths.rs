//! The init's path resolver.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| cellblock::container::fuzzing::paths(script));
