//! A tar stream that is unpacked into a container.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use tokio::io::AsyncRead;

use super::entries::{Entries, Entry, EntryKind};
use crate::container::files::batch::{Batch, Content, SMALL};
use crate::container::files::blocking::off_the_runtime;
use crate::container::files::budget::Budget;
use crate::container::files::content::CHUNK;
use crate::container::files::import::Import;
use crate::container::files::selection::Links;
use crate::container::files::tree::Tree;
use crate::error::{ErrorKind, Result, ResultExt, Step};

impl Tree<'_> {
    /// Unpacks a tar stream into this tree, which is made if it is missing. Reads the stream up to
    /// its end marker.
    ///
    /// Takes the old, POSIX (PAX) and GNU formats, without compression, and of their entries
    /// regular files, directories and symbolic links. The rules are those of
    /// [`copy_in`](Self::copy_in). The stream may be hostile: it cannot write outside of the tree,
    /// and it takes no more memory or files than the caps allow.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a stream that is no whole tar archive. [`ErrorKind::File`]
    /// with the path in the container: a cap; a hard link, a device, a FIFO or a sparse file; an
    /// absolute path or one with `..`; and the errors of [`Container::open`]: `ELOOP` for a path
    /// over a link. [`ErrorKind::Host`] if the stream cannot be read.
    ///
    /// [`Container::open`]: crate::Container::open
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the tree in the container, and the stream somewhere in
    /// the middle.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> std::io::Result<()> {
    /// let archive = tokio::fs::File::open("submission.tar").await?;
    /// container.tree("src").max_bytes(16 << 20).unpack_tar(archive).await?;
    /// # Ok(()) }
    /// ```
    pub async fn unpack_tar(self, reader: impl AsyncRead + Unpin) -> Result<()> {
        let import = Import::start(self.container, &self.path).await?;
        let mut budget = Budget::new(self.caps, &self.path);
        let mut entries = Entries::new(reader);
        let mut batch = Batch::default();
        while let Some(Entry { path, mode, kind }) = entries.next(&mut budget).await? {
            let is_taken = !path.as_os_str().is_empty() && self.selection.takes(&path);
            // A batch makes its links last: what comes after a link must find it.
            if batch.has_links() && !matches!(kind, EntryKind::Link(_)) {
                import.write(std::mem::take(&mut batch)).await?;
            }
            match kind {
                EntryKind::Directory if is_taken => {
                    budget.take_entry(&path)?;
                    batch.add_directory(path, mode);
                }
                EntryKind::Link(target) if is_taken => match self.selection.links() {
                    Links::Skip => {}
                    Links::Refuse => return Err(budget.refused(&path, "a symbolic link, which this copy refuses")),
                    Links::Keep => {
                        budget.take_entry(&path)?;
                        batch.add_link(path, target);
                    }
                },
                EntryKind::File(bytes) if is_taken => {
                    budget.take_entry(&path)?;
                    budget.take_bytes(&path, bytes)?;
                    if bytes > SMALL || batch.has_file(&path) {
                        import.write(std::mem::take(&mut batch)).await?;
                    }
                    if bytes > SMALL {
                        let file = import.open(&path, mode).await?;
                        write(&mut entries, file, bytes, &path).await?;
                    } else {
                        let mut content = vec![0; bytes as usize];
                        entries.read_exact(&mut content).await?;
                        batch.add_file(path, mode, Content::Small(content));
                    }
                    entries.skip_padding(bytes).await?;
                }
                EntryKind::File(bytes) => {
                    // Skipping takes time, and so counts.
                    budget.take_bytes(&path, bytes)?;
                    skip(&mut entries, bytes).await?;
                    entries.skip_padding(bytes).await?;
                }
                EntryKind::Directory | EntryKind::Link(_) => {}
            }
            if batch.is_full() {
                import.write(std::mem::take(&mut batch)).await?;
            }
        }
        import.write(batch).await
    }
}

/// Writes the content of a large file, a chunk at a time.
async fn write<R: AsyncRead + Unpin>(entries: &mut Entries<R>, mut file: File, bytes: u64, path: &Path) -> Result<()> {
    let (mut chunk, mut left) = (Vec::new(), bytes);
    while left > 0 {
        chunk.resize(CHUNK.min(left.try_into().unwrap_or(CHUNK)), 0);
        entries.read_exact(&mut chunk).await?;
        left -= chunk.len() as u64;
        let written = off_the_runtime(move || file.write_all(&chunk).map(|()| (file, chunk))).await;
        (file, chunk) = written.fail_at(ErrorKind::File, Step::Write, path)?;
    }
    Ok(())
}

async fn skip<R: AsyncRead + Unpin>(entries: &mut Entries<R>, bytes: u64) -> Result<()> {
    let (mut chunk, mut left) = (vec![0; CHUNK], bytes);
    while left > 0 {
        let size = CHUNK.min(left.try_into().unwrap_or(CHUNK));
        entries.read_exact(&mut chunk[..size]).await?;
        left -= size as u64;
    }
    Ok(())
}
