//! What an unpacking may still read, and whether its caller still wants it.
//!
//! Invariant: a reader that exceeds its allowance fails. The part that parses an archive's headers
//! has a small one, since it keeps what it reads in memory.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result, Step};

use super::caps::UnpackCaps;

/// The most bytes of the headers of one entry: its long names and attributes.
const HEADERS: u64 = 1 << 20;

/// A flag that tells the thread of an import that its caller is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(super) fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Image, Step::Unpack).detail("the caller dropped the import")),
            false => Ok(()),
        }
    }
}

/// Sets the flag when it is dropped.
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// What an image has used of its caps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// The caps of one layer while it is unpacked.
pub(super) struct Meter {
    caps: UnpackCaps,
    before: Used,
    used: Cell<Used>,
    /// What may still be read before the next header.
    allowance: Cell<u64>,
    /// Why the reader refused. The tar reader may wrap the error that it got.
    refusal: RefCell<Option<Error>>,
    cancel: Cancel,
}

impl Meter {
    /// `before` is what the image's other layers have used.
    pub(super) fn new(caps: UnpackCaps, before: Used, cancel: Cancel) -> Rc<Self> {
        let used = Cell::new(Used::default());
        Rc::new(Self { caps, before, used, allowance: Cell::new(HEADERS), refusal: RefCell::default(), cancel })
    }

    /// What the layer has used.
    pub(super) fn used(&self) -> Used {
        self.used.get()
    }

    /// Allows as many bytes as the headers of one entry may have.
    pub(super) fn expect_headers(&self) {
        self.allowance.set(HEADERS);
    }

    /// Allows any content that the cap allows.
    pub(super) fn expect_content(&self) {
        self.allowance.set(u64::MAX);
    }

    /// Why reading failed: this meter's reason, or the reader's.
    pub(super) fn error(&self, error: io::Error) -> Error {
        match self.refusal.take() {
            Some(refusal) => refusal,
            None => Error::io(ErrorKind::Image, Step::Unpack, error),
        }
    }

    pub(super) fn count_entry(&self) -> Result<()> {
        let entries = self.used.get().entries + 1;
        self.used.set(Used { entries, ..self.used.get() });
        match self.before.entries + entries > self.caps.entries {
            true => Err(exceeds("entries", self.caps.entries)),
            false => Ok(()),
        }
    }

    pub(super) fn count_bytes(&self, bytes: u64) -> Result<()> {
        let bytes = self.used.get().bytes.saturating_add(bytes);
        self.used.set(Used { bytes, ..self.used.get() });
        match self.before.bytes.saturating_add(bytes) > self.caps.bytes {
            true => Err(exceeds("bytes", self.caps.bytes)),
            false => Ok(()),
        }
    }

    fn count_read(&self, bytes: u64) -> Result<()> {
        self.cancel.check()?;
        let Some(left) = self.allowance.get().checked_sub(bytes) else {
            return Err(exceeds("bytes in the headers of an entry", HEADERS));
        };
        self.allowance.set(left);
        self.count_bytes(bytes)
    }
}

/// The error of an image that exceeds a cap.
pub(super) fn exceeds(what: &str, cap: u64) -> Error {
    Error::new(ErrorKind::Image, Step::Unpack).detail(format!("it exceeds the cap of {cap} {what}"))
}

/// Counts what is read.
pub(super) struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, meter: Rc<Meter>) -> Self {
        Self { inner, meter }
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

/// A reader that seeks skips content, which does not count.
impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.meter.count_read(count as u64).map_err(|refusal| {
            let error = io::Error::other(refusal.to_string());
            self.meter.refusal.replace(Some(refusal));
            error
        })?;
        Ok(count)
    }
}
