//! Names in a container: made, replaced and deleted, whatever they name.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use crate::error::{Failure, ResultExt, Step};
use crate::wire::{Ids, Rename, Reply, Symlink};

use super::resolve::{dir_and_name, without_path};

/// Makes each link.
pub(crate) fn link_all(links: &[Symlink], program: Ids) -> Reply {
    Reply::Each(links.iter().map(|link| without_path(symlink(link, program))).collect())
}

/// Deletes each file, link or empty directory.
pub(crate) fn delete_all(paths: &[PathBuf]) -> Reply {
    Reply::Each(paths.iter().map(|path| without_path(delete(path))).collect())
}

/// Makes a symbolic link that belongs to `owner`. Its content is not checked.
pub(crate) fn symlink(Symlink { target, path }: &Symlink, owner: Ids) -> Result<(), Failure> {
    let (dir, name) = dir_and_name(path).step_at(Step::MakeSymlink, path)?;
    symlinkat(target, &dir, name).step_at(Step::MakeSymlink, path)?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    fchownat(&dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).step_at(Step::MakeSymlink, path)
}

/// Deletes a file or an empty directory. A link is deleted itself.
pub(crate) fn delete(path: &Path) -> Result<(), Failure> {
    let (dir, name) = dir_and_name(path).step_at(Step::Delete, path)?;
    let deleted = match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => unlinkat(&dir, name, UnlinkatFlags::RemoveDir),
        other => other,
    };
    deleted.step_at(Step::Delete, path)
}

/// Gives a file, a link or a directory another name. What had that name is replaced, as rename(2)
/// replaces it.
pub(crate) fn rename(Rename { from, to }: &Rename) -> Result<(), Failure> {
    let (old_dir, old_name) = dir_and_name(from).step_at(Step::Rename, from)?;
    let (new_dir, new_name) = dir_and_name(to).step_at(Step::Rename, to)?;
    renameat(&old_dir, old_name, &new_dir, new_name).step_at(Step::Rename, from)
}
