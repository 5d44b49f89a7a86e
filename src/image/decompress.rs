//! Layers as they are stored: plain, gzip or zstd.
//!
//! Invariant: the first bytes tell the compression. Media types do not: `docker save` writes none.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Before a frame that decoders skip; the first byte is 0x50 to 0x5f.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Whether a file that starts like this is compressed.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || is_zstd(start)
}

fn is_zstd(start: &[u8]) -> bool {
    let is_skippable = |(first, rest): (&u8, &[u8])| first & 0xf0 == 0x50 && rest.starts_with(&ZSTD_SKIPPABLE);
    start.starts_with(&ZSTD) || start.split_first().is_some_and(is_skippable)
}

/// A layer without its compression.
pub(super) enum Decompressed<R: Read> {
    Plain(BufReader<R>),
    Gzip(MultiGzDecoder<BufReader<R>>),
    Zstd(ZstdFrames<BufReader<R>>),
}

impl<R: Read> Decompressed<R> {
    pub(super) fn new(stored: R) -> io::Result<Self> {
        let mut stored = BufReader::with_capacity(64 << 10, stored);
        let start = stored.fill_buf()?;
        let (is_gzip, is_zstd) = (start.starts_with(&GZIP), is_zstd(start));
        Ok(if is_gzip {
            Self::Gzip(MultiGzDecoder::new(stored))
        } else if is_zstd {
            Self::Zstd(ZstdFrames::new(stored))
        } else {
            Self::Plain(stored)
        })
    }

    /// What is stored, with the part that was not read yet.
    pub(super) fn into_inner(self) -> R {
        match self {
            Self::Plain(stored) => stored.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
            Self::Zstd(frames) => frames.stored.into_inner(),
        }
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stored) => stored.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
            Self::Zstd(frames) => frames.read(buf),
        }
    }
}

/// The content of zstd frames, one after another. Frames that decoders skip are skipped:
/// zstd:chunked layers have some.
pub(super) struct ZstdFrames<R> {
    stored: R,
    frame: Box<FrameDecoder>,
    is_within_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(stored: R) -> Self {
        Self { stored, frame: Box::default(), is_within_frame: false }
    }

    /// Begins the next frame. Returns whether there is one.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.stored.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.stored) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.stored).take(length.into()), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_within_frame {
                if !self.begin_frame()? {
                    return Ok(0);
                }
                self.is_within_frame = true;
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.frame.decode_blocks(&mut self.stored, one).map_err(io::Error::other)?;
            }
            match self.frame.read(buf)? {
                0 => self.is_within_frame = false,
                count => return Ok(count),
            }
        }
    }
}
