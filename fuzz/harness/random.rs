//! The pseudo-random numbers of every test and harness. A seed always gives the same numbers.

/// A xorshift generator of 64 bits.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// # Panics
    /// Panics if the seed is 0: all of that seed's numbers are 0.
    pub(crate) fn new(seed: u64) -> Self {
        assert_ne!(seed, 0, "a seed");
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}
