//! The files that the init writes.
//!
//! Invariant: their content comes from the configuration alone.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use crate::error::{Failure, ResultExt, Step};
use crate::init::files::{ROOT, make_dirs, resolve};
use crate::wire::{Configure, Content, Ids, MountEntry, MountKind};

/// The id that the kernel shows for every id which the container does not have.
const OVERFLOW: u32 = 65534;

/// Writes out the files whose content depends on the rest of the configuration.
pub(super) fn write_out(configure: &mut Configure) {
    let Configure { mounts, program, hostname, work_dir, .. } = configure;
    for MountEntry { kind, .. } in mounts {
        let MountKind::File(content) = kind else { continue };
        let text = match content {
            Content::Bytes(_) => continue,
            Content::Users => users(*program, work_dir),
            Content::Groups => groups(*program).into_bytes(),
            Content::Hosts => hosts(hostname).into_bytes(),
        };
        *content = Content::Bytes(text);
    }
}

/// passwd(5): the init's user, the program's, and the one of everything else.
fn users(program: Ids, work_dir: &Path) -> Vec<u8> {
    // The format has no way to write such a path.
    let is_writable = |dir: &&[u8]| !dir.iter().any(|byte| b":\n".contains(byte));
    let home = Some(work_dir.as_os_str().as_bytes()).filter(is_writable).unwrap_or(b"/");
    let line = |name: &str, Ids { uid, gid }: Ids, home: &[u8], shell: &str| {
        [format!("{name}:x:{uid}:{gid}:{name}:").as_bytes(), home, format!(":{shell}\n").as_bytes()].concat()
    };
    let others = Ids { uid: OVERFLOW, gid: OVERFLOW };
    let nobody = line("nobody", others, b"/nonexistent", "/usr/sbin/nologin");
    if program == ROOT {
        [line("root", ROOT, home, "/bin/sh"), nobody].concat()
    } else {
        [line("root", ROOT, b"/", "/bin/sh"), line("program", program, home, "/bin/sh"), nobody].concat()
    }
}

/// group(5), as [`users`].
fn groups(program: Ids) -> String {
    let own = if program == ROOT { String::new() } else { format!("program:x:{}:\n", program.gid) };
    format!("root:x:0:\n{own}nogroup:x:{OVERFLOW}:\n")
}

/// hosts(5): the loopback, which also is this host.
fn hosts(hostname: &str) -> String {
    format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

/// Makes a file beneath the root, in place of one that the tree of a root has there, and the
/// directories that it needs.
pub(super) fn make_file_at(root: &OwnedFd, path: &Path, content: &[u8], owner: Ids) -> Result<(), Failure> {
    let dir = make_dirs(root, path.parent().unwrap_or(Path::new("")), owner)?;
    let name = Path::new(path.file_name().unwrap_or_default());
    match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(Failure::at(Step::Write, path, error)),
    }
    let file = write_file(&dir, name, content).step_at(Step::Write, path)?;
    if owner == ROOT {
        return Ok(());
    }
    fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).step_at(Step::SetOwner, path)
}

/// Makes a link beneath the root, and the directories that it needs.
pub(super) fn make_link_at(root: &OwnedFd, path: &Path, to: &Path) -> Result<(), Failure> {
    let dir = make_dirs(root, path.parent().unwrap_or(Path::new("")), ROOT)?;
    symlinkat(to, &dir, path.file_name().unwrap_or_default()).step_at(Step::MakeSymlink, path)
}

/// Writes a new file of mode 0644.
pub(super) fn write_file(dir: impl AsFd, path: &Path, content: &[u8]) -> io::Result<std::fs::File> {
    let file = resolve(dir, path, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY, 0o644)?;
    let mut file = std::fs::File::from(file);
    file.write_all(content)?;
    Ok(file)
}
