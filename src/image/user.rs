//! The user of an image as numbers.
//!
//! Invariant: the image's own files say which numbers its names have. They are opened within the
//! image's tree, where every link stays.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Error, ErrorKind, Result, ResultExt, Step};

/// More than a file of users has.
const MOST_BYTES: u64 = 1 << 20;

/// The user and group id of `user` or `user:group`, each a name or a number.
pub(super) fn ids(root: &Path, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    // name:password:uid:gid:…
    let passwd = read(root, "etc/passwd")?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entry.filter(|fields| fields.len() > 3).find(|fields| fields[0] == user || fields[2] == user);
    let uid = user.parse().ok().or_else(|| entry.as_ref()?[2].parse().ok());
    let gid = match group {
        // A user that has no entry has the group 0.
        None => entry.as_ref().map_or(Some(0), |fields| fields[3].parse().ok()),
        Some(group) => match group.parse() {
            Ok(gid) => Some(gid),
            Err(_) => gid_of(&read(root, "etc/group")?, group),
        },
    };
    let unknown = || Error::new(ErrorKind::Image, Step::ReadImage).detail(format!("the image has no user {text:?}"));
    // The kernel takes the highest number for none.
    let known = |id: Option<u32>| id.filter(|&id| id != u32::MAX).ok_or_else(unknown);
    Ok((known(uid)?, known(gid)?))
}

/// The number of a group, in lines of name:password:gid:….
fn gid_of(file: &str, name: &str) -> Option<u32> {
    let mut entries = file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entries.find(|fields| fields.len() > 2 && fields[0] == name)?[2].parse().ok()
}

/// Reads a file of the image as text. A missing one is empty.
fn read(root: &Path, path: &str) -> Result<String> {
    let open = || {
        let root = super::tree::open_directory(rustix::fs::CWD, root)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    };
    let file = match open().map(File::from).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        file => file.fail_at(ErrorKind::Image, Step::ReadImage, path)?,
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).fail_at(ErrorKind::Image, Step::ReadImage, path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
