//! The world that programs find by default.
//!
//! Invariant: no file here says anything of the host, except what every local user may read and
//! ordinary programs need: system programs and libraries, their settings, the time zone, and the
//! certificates of the authorities.

use std::path::{Path, PathBuf};

use crate::mount::{Machine, Mount, Tmpfs};
use crate::wire::{Content, MountKind};

/// Directories of the host with programs and libraries.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs look up below the host's `/etc`. A directory of certificates is not among them: it
/// may have the host's own, with its name, and `/etc/ssl/private` lies beside it.
const SETTINGS: [&str; 8] = [
    "alternatives",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "ssl/certs/ca-certificates.crt",
    "ssl/openssl.cnf",
];

const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n";

const RESOLV: &str = "# The network of a container has no name server.\n";

impl Mount {
    /// The default mounts of a container: what ordinary programs of the host need to run.
    ///
    /// - Read-only from the host: `/usr`, `/bin`, `/sbin` and `/lib*`, or the links to `/usr` in
    ///   their place. From `/etc`, the files of the loader, the alternatives, the time zone, fonts,
    ///   the settings of OpenSSL and Java, the extensions of PHP, and the certificates of the
    ///   authorities as one file. The devices null, zero, full, random and urandom.
    /// - Generated: `passwd`, `group`, `hosts`, `nsswitch.conf` and `resolv.conf` in `/etc`. They
    ///   say nothing of the host.
    /// - `/proc`, as of [`proc_with`](Self::proc_with).
    /// - Three tmpfs, each with the limits of `tmpfs`: `/w`, and with mode 1777 `/tmp` and
    ///   `/dev/shm`.
    ///
    /// What the host lacks is left out.
    pub fn defaults(tmpfs: Tmpfs) -> Vec<Self> {
        let settings = SETTINGS.iter().map(|name| Path::new("/etc").join(name)).chain(versioned_settings());
        let mut mounts: Vec<_> = SYSTEM.iter().map(PathBuf::from).map(as_on_host).chain(settings.map(bind)).collect();
        mounts.extend(DEVICES.map(Self::device));
        mounts.extend(account_files());
        mounts.extend(Self::essentials(tmpfs));
        mounts.push(Self::tmpfs("/w", tmpfs));
        mounts.push(Self::tmpfs("/tmp", tmpfs.mode(0o1777)));
        mounts
    }

    /// The default mounts over a [`Root`](crate::Root): those of [`defaults`](Self::defaults) that
    /// are not the host's programs, libraries and settings. These are the devices, the generated
    /// `hosts` and `resolv.conf`, `/proc`, and a tmpfs each on `/dev/shm`, `/w` and `/tmp`.
    pub fn defaults_over_root(tmpfs: Tmpfs) -> Vec<Self> {
        let mut mounts: Vec<_> = DEVICES.map(Self::device).into();
        mounts.extend(Self::essentials(tmpfs));
        mounts.push(Self::tmpfs("/w", tmpfs));
        mounts.push(Self::tmpfs("/tmp", tmpfs.mode(0o1777)));
        mounts
    }

    /// What no root directory brings along: the files that depend on the container, `/proc` and
    /// `/dev/shm`.
    pub(crate) fn essentials(tmpfs: Tmpfs) -> [Self; 4] {
        [
            Self::new("/etc/hosts".into(), MountKind::File(Content::Hosts)),
            Self::file("/etc/resolv.conf", RESOLV),
            Self::proc_with("/proc", Machine::new()),
            Self::tmpfs("/dev/shm", tmpfs.mode(0o1777)),
        ]
    }
}

fn bind(path: PathBuf) -> Mount {
    Mount::bind(path.clone(), path).skip_missing()
}

/// A directory of the host, or the link to one below `/usr` that most hosts have in its place: a
/// link costs a build less than a mount does.
fn as_on_host(path: PathBuf) -> Mount {
    match std::fs::read_link(&path) {
        Ok(target) if target.starts_with("usr") => Mount::new(path, MountKind::Link(target)),
        _ => bind(path),
    }
}

/// Who has which id in the container, and where names are looked up.
fn account_files() -> [Mount; 3] {
    [
        Mount::new("/etc/passwd".into(), MountKind::File(Content::Users)),
        Mount::new("/etc/group".into(), MountKind::File(Content::Groups)),
        Mount::file("/etc/nsswitch.conf", NSSWITCH),
    ]
}

/// The settings of Java, and the extensions of PHP: Debian has directories for each version.
fn versioned_settings() -> Vec<PathBuf> {
    let entries = |dir| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_java = |path: &PathBuf| path.to_string_lossy().starts_with("/etc/java-");
    let php = entries("/etc/php").flat_map(|version| ["mods-available", "cli/conf.d"].map(|dir| version.join(dir)));
    entries("/etc").filter(is_java).chain(php).collect()
}
