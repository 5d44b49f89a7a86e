//! The seeds: the inputs that a fuzz target starts with. Each harness makes its own, by hand or
//! from what the library sends.
//!
//! `cargo test seeds` plays every seed. With `CELLBLOCK_WRITE_SEEDS=1` it also writes them to
//! `fuzz/corpus`.

use std::fs;
use std::path::Path;

/// A name in the corpus, and the input.
pub(super) type Seed = (&'static str, Vec<u8>);

/// Plays the seeds of a target.
pub(super) fn play(target: &str, seeds: impl IntoIterator<Item = Seed>, mut harness: impl FnMut(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let writes = std::env::var_os("CELLBLOCK_WRITE_SEEDS").is_some();
    for (name, seed) in seeds {
        if writes {
            fs::create_dir_all(&corpus).unwrap();
            fs::write(corpus.join(name), &seed).unwrap();
        }
        harness(&seed);
    }
}
