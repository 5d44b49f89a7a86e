//! What a path of a container leads to.

use std::time::{Duration, SystemTime};

use crate::wire::RawMetadata;

/// The type of a file in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link. The library never follows it.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl FileType {
    /// Whether it is a regular file.
    pub fn is_file(self) -> bool {
        self == Self::File
    }

    /// Whether it is a directory.
    pub fn is_dir(self) -> bool {
        self == Self::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(self) -> bool {
        self == Self::Symlink
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
        }
    }

    /// `None` for a type that the kernel does not tell.
    pub(super) fn from_kernel(file_type: rustix::fs::FileType) -> Option<Self> {
        use rustix::fs::FileType as Kernel;
        Some(match file_type {
            Kernel::RegularFile => Self::File,
            Kernel::Directory => Self::Directory,
            Kernel::Symlink => Self::Symlink,
            Kernel::Fifo => Self::Fifo,
            Kernel::Socket => Self::Socket,
            Kernel::CharacterDevice | Kernel::BlockDevice => Self::Device,
            _ => return None,
        })
    }
}

/// What the kernel knows of a file in a container: [`Container::metadata`].
///
/// [`Container::metadata`]: crate::Container::metadata
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata(pub(super) RawMetadata);

impl Metadata {
    /// The type of the file. A symbolic link is described itself.
    pub fn file_type(&self) -> FileType {
        // The init answers for an open file, whose type the kernel always tells.
        FileType::from_kernel(rustix::fs::FileType::from_raw_mode(self.0.mode)).unwrap_or(FileType::Device)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// The size in bytes. A program can make a file of any size that takes no room.
    #[expect(clippy::len_without_is_empty, reason = "as in std")]
    pub fn len(&self) -> u64 {
        self.0.bytes
    }

    /// The permissions, with the set-id bits and the sticky bit: `0o755`.
    pub fn mode(&self) -> u32 {
        self.0.mode & 0o7777
    }

    /// When the content was changed. Programs can set any time.
    pub fn modified(&self) -> SystemTime {
        let seconds = Duration::from_secs(self.0.modified_seconds.unsigned_abs());
        let nanos = Duration::from_nanos(self.0.modified_nanos.into());
        let whole = match self.0.modified_seconds {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        whole.and_then(|time| time.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The owner's user id, as programs of the container see it.
    pub fn uid(&self) -> u32 {
        self.0.owner.uid
    }

    /// The owner's group id, as programs of the container see it.
    pub fn gid(&self) -> u32 {
        self.0.owner.gid
    }
}
