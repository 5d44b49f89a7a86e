//! Caps on what an image may unpack to.

/// How much an image may unpack to. An image that exceeds a cap is refused with an error that names
/// the cap, and leaves nothing in the store.
///
/// ```
/// use cellblock::image::UnpackCaps;
///
/// let caps = UnpackCaps::new().bytes(20 << 30).entries(2_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct UnpackCaps {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) path: usize,
    pub(super) depth: usize,
    pub(super) layers: usize,
}

impl Default for UnpackCaps {
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 1_000_000, path: 4095, depth: 128, layers: 500 }
    }
}

impl UnpackCaps {
    /// The default caps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many bytes the layers may have together, uncompressed. A sparse file counts with
    /// its full size. Default: 8 GiB.
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Sets how many files, directories, links and whiteouts the layers may have together. Default:
    /// 1 000 000.
    pub fn entries(self, entries: u64) -> Self {
        Self { entries, ..self }
    }

    /// Sets how many bytes the path of a file may have. Default: 4095.
    pub fn path_length(self, bytes: usize) -> Self {
        Self { path: bytes, ..self }
    }

    /// Sets how many names the path of a file may have. Unpacking and removing an image hold a
    /// descriptor open for each. Default: 128.
    pub fn path_depth(self, names: usize) -> Self {
        Self { depth: names, ..self }
    }

    /// Sets how many layers an image may have. Default: 500.
    pub fn layers(self, layers: usize) -> Self {
        Self { layers, ..self }
    }
}
