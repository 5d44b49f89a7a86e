//! The host, and a compromised init.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| cellblock::container::fuzzing::actor(script));
