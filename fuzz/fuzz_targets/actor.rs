//! The host against a compromised init.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| cellblock::container::fuzzing::actor(script));
