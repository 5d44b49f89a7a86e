//! What a container's "/" is made of: a tree of the host in place of the host's own `/usr`.
//!
//! Invariant: a [`Root`] is a description. `Root::resolve` finds, and where needed makes, the
//! directories that it stands for, on a thread that may block.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
#[cfg(feature = "images")]
use std::path::Component;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::error::{ErrorKind, Result, ResultExt, Step};
#[cfg(feature = "images")]
use crate::image::{ImageRequest, ResolvedImage, Store};
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
    #[cfg(feature = "images")]
    Image(Arc<ImageRequest>),
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
    /// of the tree. Device nodes of the tree do not work. Programs that a set-user-ID bit would
    /// give rights to do not get them. Do not change the tree while a container uses it. Containers
    /// may see such a change, in part or whole, or get errors from files that it concerns (as
    /// overlayfs documents it).
    ///
    /// ```
    /// use cellblock::{Container, Root};
    ///
    /// let builder = Container::builder().root(Root::directory("/srv/roots/debian"));
    /// ```
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { source: Source::Directory(path.into()), changes: Tmpfs::default() }
    }

    /// An image: an OCI layout (a directory), an archive of one, or what `docker save` writes.
    /// `tag` chooses one of several images.
    ///
    /// The image's environment, working directory, user and command become those of the container,
    /// as [`ContainerBuilder::root`](crate::ContainerBuilder::root) says. Its files belong to the
    /// program.
    ///
    /// The first build with this root, or with a clone, unpacks the image into a
    /// [store](Self::store), unless the store has it. That may take minutes, and does not count for
    /// [`start_timeout`](crate::ContainerBuilder::start_timeout). Later builds use the same tree,
    /// also if the image at `path` changes. The tree stays in the store while the root or a
    /// container lives.
    ///
    /// ```
    /// use cellblock::{Container, Root};
    ///
    /// let builder = Container::builder().root(Root::oci("/srv/images/python.tar", None));
    /// ```
    #[cfg(feature = "images")]
    #[cfg_attr(docsrs, doc(cfg(feature = "images")))]
    pub fn oci(path: impl Into<PathBuf>, tag: Option<&str>) -> Self {
        Self::from_image(ImageRequest::image(path.into(), tag.map(str::to_owned)))
    }

    /// A directory tree or an image, as command lines name it: `PATH`, `PATH:TAG`, or the name or
    /// digest of an image in the [store](Self::store). A path that exists comes first. A directory
    /// with a file `oci-layout` or `index.json` is a layout, every other directory is a
    /// [tree](Self::directory), and a file is an archive.
    ///
    /// The first build finds out which it is.
    ///
    /// ```
    /// use cellblock::{Container, Root};
    ///
    /// let builder = Container::builder().root(Root::image("python.tar:3.12"));
    /// ```
    #[cfg(feature = "images")]
    #[cfg_attr(docsrs, doc(cfg(feature = "images")))]
    pub fn image(text: impl Into<OsString>) -> Self {
        Self::from_image(ImageRequest::text(text.into()))
    }

    /// Sets the store of an image. A root without an image ignores it. Default: the store in
    /// [`Store::default_directory`].
    #[cfg(feature = "images")]
    #[cfg_attr(docsrs, doc(cfg(feature = "images")))]
    pub fn store(self, store: Store) -> Self {
        match &self.source {
            Source::Image(request) => Self { source: Source::Image(Arc::new(request.in_store(store))), ..self },
            Source::Directory(_) => self,
        }
    }

    #[cfg(feature = "images")]
    fn from_image(request: ImageRequest) -> Self {
        Self { source: Source::Image(Arc::new(request)), changes: Tmpfs::default() }
    }

    /// Sets the limits of the tmpfs that takes the changes of the tree. A file that is written to
    /// counts with its whole size. The mode is that of "/". Default: [`Tmpfs::default`].
    pub fn changes(self, changes: Tmpfs) -> Self {
        Self { changes, ..self }
    }

    pub(crate) fn tmpfs_of_changes(&self) -> Tmpfs {
        self.changes
    }

    /// Finds the directories of the root, and what it sets for its programs. Dropping the future
    /// ends the unpacking of an image.
    pub(crate) async fn resolve(&self) -> Result<ResolvedRoot> {
        match &self.source {
            Source::Directory(path) => {
                let path = path.clone();
                spawn_blocking(move || {
                    let directory = directory(&path).fail_at(ErrorKind::Build, Step::OpenBindSource, &path)?;
                    Ok(ResolvedRoot { lowers: vec![directory], ..ResolvedRoot::default() })
                })
                .await
                .fail(ErrorKind::Host, Step::OpenBindSource)?
            }
            #[cfg(feature = "images")]
            Source::Image(request) => Ok(Arc::clone(request).resolve().await?.into()),
        }
    }
}

fn directory(path: &Path) -> io::Result<PathBuf> {
    if !path.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    std::path::absolute(path)
}

#[cfg(feature = "images")]
impl From<ResolvedImage> for ResolvedRoot {
    fn from(ResolvedImage { root, config, ids, guard }: ResolvedImage) -> Self {
        // The group 0 is the init's, so such a program gets a group with its own number.
        let program = |(uid, gid)| Ids { uid, gid: if gid == 0 { uid } else { gid } };
        Self {
            lowers: vec![root],
            env: config.env.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            work_dir: config.work_dir.map(|dir| absolute_inside(Path::new(&dir))),
            program: ids.filter(|&(uid, _)| uid != 0).map(program),
            command: config.command.into_iter().map(OsString::from).collect(),
            guard,
        }
    }
}

/// The path from the root that an image means. `..` is the directory above in the text, and never
/// one out of the root.
#[cfg(feature = "images")]
fn absolute_inside(path: &Path) -> PathBuf {
    let mut inside = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => drop(inside.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    inside
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
