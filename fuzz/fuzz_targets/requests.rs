//! The init's decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| cellblock::container::fuzzing::requests(script));
