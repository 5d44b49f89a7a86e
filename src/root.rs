//! What a container's "/" is made of: a tree of the host in place of the host's own `/usr`.
//!
//! Invariant: a [`Root`] is a description. [`Root::resolve`] finds, and where needed makes, the
//! directories that it stands for. It blocks, so the builder calls it off the runtime's threads.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, Step};
use crate::mount::Tmpfs;
use crate::wire::Ids;

/// The tree that programs see as "/", for
/// [`ContainerBuilder::root`](crate::ContainerBuilder::root).
///
/// Programs can write to the whole tree. A tmpfs takes the changes, and a reset removes them. The
/// tree on the host stays as it is. Nothing else of the host is seen, not even its `/usr`: programs
/// and libraries come from the tree.
///
/// ```
/// use cellblock::{Container, Root, mount::Tmpfs};
///
/// let debian = Root::directory("/srv/roots/debian").changes(Tmpfs::new().bytes(256 << 20));
/// let builder = Container::builder().root(debian);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a root is passed to `ContainerBuilder::root`"]
pub struct Root {
    source: Source,
    changes: Tmpfs,
}

/// Where the tree comes from.
#[derive(Clone, Debug)]
enum Source {
    Directory(PathBuf),
}

impl Root {
    /// A directory of the host that holds a whole root file system, such as debootstrap makes. A
    /// relative path starts at the host's working directory.
    ///
    /// Files that belong to the owner of the directory belong to the program inside; every other
    /// file belongs to the overflow id (`nobody`). All files do if the directory's file system
    /// cannot map owners (mount_setattr(2), `MOUNT_ATTR_IDMAP`; needs Linux 5.19 under an overlay).
    /// A file of another owner or group can be read as its mode says for others, and deleted, but
    /// not changed. Before Linux 6.6, a directory of the tree that has entries cannot be deleted
    /// (`EIO`). Submounts of the directory are left out; a host without CAP_SYS_ADMIN cannot use
    /// a directory that has any.
    ///
    /// The tree may lack `/proc`, `/dev`, `/tmp` and `/w`: they are made inside. A mount or a link
    /// of the builder takes the place of a file of the tree, but its path must not lead over a link
    /// of the tree. Device nodes of the tree do not work. Programs that a set-user-ID bit would give
    /// rights to do not get them. Do not change the
    /// tree while a container uses it. Containers may see such a change, in part or whole, or get
    /// errors from files that it concerns (as overlayfs documents it).
    ///
    /// ```
    /// use cellblock::{Container, Root};
    ///
    /// let builder = Container::builder().root(Root::directory("/srv/roots/debian"));
    /// ```
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { source: Source::Directory(path.into()), changes: Tmpfs::default() }
    }

    /// Sets the limits of the tmpfs that takes the changes of the tree. A file that is written to
    /// counts with its whole size. The mode is that of "/". Default: [`Tmpfs::default`].
    pub fn changes(self, changes: Tmpfs) -> Self {
        Self { changes, ..self }
    }

    pub(crate) fn tmpfs_of_changes(&self) -> Tmpfs {
        self.changes
    }

    /// Finds the directories of the root, and what it sets for its programs. Blocks.
    pub(crate) fn resolve(&self) -> Result<ResolvedRoot> {
        match &self.source {
            Source::Directory(path) => {
                let directory = directory(path);
                let directory =
                    directory.map_err(|error| Error::io(ErrorKind::Build, Step::OpenBindSource, error).at(path))?;
                Ok(ResolvedRoot { lowers: vec![directory], ..ResolvedRoot::default() })
            }
        }
    }
}

fn directory(path: &Path) -> io::Result<PathBuf> {
    if !path.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    std::path::absolute(path)
}

/// The directories of a root, and the defaults of its runs.
#[derive(Debug, Default)]
pub(crate) struct ResolvedRoot {
    /// Directories of the host, the first on top. At least one.
    pub(crate) lowers: Vec<PathBuf>,
    /// Variables of runs that do not set them.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory, if the builder sets none. Absolute.
    pub(crate) work_dir: Option<PathBuf>,
    /// The program's ids inside, if the root says which and they are not 0.
    pub(crate) program: Option<Ids>,
    /// The program and its arguments, for a caller that names none.
    pub(crate) command: Vec<OsString>,
    /// Open for as long as the container lives, such as a lock on the directories.
    pub(crate) guard: Option<Arc<OwnedFd>>,
}
