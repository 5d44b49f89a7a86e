//! Contents of files, copied on a thread that may block.

use std::fs::File;
use std::io::{self, Read, Write};

use tokio_util::sync::CancellationToken;

/// How much is read at once.
pub(super) const CHUNK: usize = 128 << 10;

/// Copies at most `bytes` bytes, and fewer if the source ends earlier. Stops if the copy's future
/// was dropped.
pub(super) fn copy(mut from: &File, mut to: &File, bytes: u64, canceled: &CancellationToken) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(bytes.try_into().unwrap_or(CHUNK))];
    let mut left = bytes;
    while left > 0 && !canceled.is_cancelled() {
        let wanted = buffer.len().min(left.try_into().unwrap_or(usize::MAX));
        match from.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(size) => {
                to.write_all(&buffer[..size])?;
                left -= size as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at most `bytes` bytes, and fewer if the file ends earlier. The size alone allocates no
/// more than a chunk.
pub(super) fn read(mut from: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut content = vec![0; most.min(CHUNK)];
    let mut size = 0;
    while size < most {
        if size == content.len() {
            content.resize(most.min(2 * size), 0);
        }
        match from.read(&mut content[size..]) {
            Ok(0) => break,
            Ok(more) => size += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(size);
    Ok(content)
}
