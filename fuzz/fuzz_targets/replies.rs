//! The host's decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| cellblock::container::fuzzing::replies(script));
