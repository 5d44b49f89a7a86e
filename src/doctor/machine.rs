//! Facts about a machine, read from its files.
//!
//! Invariant: every method is a pure function of the files that [`Machine`] reads. Tests pass files
//! of their own.

use std::ops::Range;
use std::path::Path;

use rustix::thread::CapabilitySet;

use crate::cgroup::ProcCgroup;
use crate::sys::landlock;
use crate::sys::mountinfo::MountPoint;

use super::platform::Platform;

/// A machine's files.
pub(super) struct Machine<'a> {
    pub(super) read: &'a dyn Fn(&Path) -> Option<String>,
    pub(super) can_write: &'a dyn Fn(&Path) -> bool,
    pub(super) has_landlock: &'a dyn Fn() -> bool,
}

/// What `/proc` says about the calling thread.
pub(super) struct Caller {
    pub(super) uid: u64,
    pub(super) capabilities: CapabilitySet,
    /// Whether a seccomp filter confines it.
    pub(super) is_filtered: bool,
}

impl Caller {
    pub(super) fn has(&self, capabilities: CapabilitySet) -> bool {
        self.capabilities.contains(capabilities)
    }
}

/// Which form of control groups a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    V1,
    V2,
    /// Neither is mounted.
    None,
}

/// The control groups of this process that could limit memory and processes.
pub(super) struct Cgroups {
    /// What was seen of each controller.
    pub(super) seen: String,
    pub(super) hierarchy: Hierarchy,
    /// Whether this process may divide the groups of both controllers.
    pub(super) can_limit: bool,
}

impl Machine<'static> {
    /// The machine that this process runs on.
    pub(super) const THIS: Self = Self {
        read: &|path| std::fs::read_to_string(path).ok(),
        can_write: &|path| nix::unistd::eaccess(path, nix::unistd::AccessFlags::W_OK).is_ok(),
        has_landlock: &landlock::is_supported,
    };
}

impl Machine<'_> {
    /// The calling thread. `None` without a readable `/proc`.
    pub(super) fn caller(&self) -> Option<Caller> {
        let status = self.text("/proc/thread-self/status");
        let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim());
        let effective = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
        Some(Caller {
            uid: field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            capabilities: CapabilitySet::from_bits_retain(effective),
            is_filtered: field("Seccomp:") == Some("2"),
        })
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> String {
        self.sysctl("kernel.osrelease")
    }

    /// The value of a sysctl; empty if it does not exist.
    pub(super) fn sysctl(&self, name: &str) -> String {
        self.text(Path::new("/proc/sys").join(name.replace('.', "/")))
    }

    /// The AppArmor profile of this process; empty without AppArmor.
    pub(super) fn apparmor_profile(&self) -> String {
        self.text("/proc/self/attr/apparmor/current")
    }

    /// The user ids and the group ids that this process's user namespace maps. `None` in a kernel
    /// without user namespaces.
    pub(super) fn mapped_ids(&self) -> Option<[Vec<Range<u64>>; 2]> {
        Some([self.mapped("/proc/self/uid_map")?, self.mapped("/proc/self/gid_map")?])
    }

    fn mapped(&self, map: &str) -> Option<Vec<Range<u64>>> {
        let map = (self.read)(Path::new(map))?;
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
            let (first, count) = (numbers.next()?, numbers.nth(1)?);
            Some(first..first + count)
        };
        Some(map.lines().filter_map(range).collect())
    }

    /// What covers parts of the visible procs. `None` if at least one of them is not covered.
    pub(super) fn proc_covers(&self) -> Option<Vec<String>> {
        // The kernel keeps these directories empty for mounts, so a mount there covers nothing.
        const MOUNT_POINTS: [&str; 3] = ["/sys/fs/binfmt_misc", "/fs/nfsd", "/openprom"];
        let mountinfo = self.text("/proc/self/mountinfo");
        let mounts = MountPoint::all(&mountinfo);
        let mut covers = Vec::new();
        for proc in mounts.iter().filter(|it| (it.fs, it.root) == ("proc", "/")) {
            let is_mount_point =
                |path: &str| path.strip_prefix(proc.path).is_some_and(|below| MOUNT_POINTS.contains(&below));
            let known = covers.len();
            for mount in mounts.iter().filter(|it| it.parent == proc.id && !is_mount_point(it.path)) {
                covers.push(mount.path.to_owned());
            }
            if covers.len() == known {
                return None;
            }
        }
        Some(covers)
    }

    /// The control groups of this process.
    pub(super) fn cgroups(&self) -> Cgroups {
        let (groups, mountinfo) = (self.text("/proc/self/cgroup"), self.text("/proc/self/mountinfo"));
        let own = ProcCgroup::parse(&groups, &mountinfo);
        let found = ["memory", "pids"].map(|controller| match self.cgroup(&own, controller) {
            Some((true, group)) => (true, format!("{controller}: {group}")),
            Some((false, group)) => (false, format!("{controller}: {group}, not writable")),
            None => (false, format!("{controller}: no such controller")),
        });
        let hierarchy = match own.of_v2() {
            _ if ["memory", "pids"].iter().any(|it| own.of_controller(it).is_some()) => Hierarchy::V1,
            Some(_) => Hierarchy::V2,
            None => Hierarchy::None,
        };
        Cgroups {
            hierarchy,
            seen: found.each_ref().map(|(_, seen)| seen.as_str()).join("; "),
            can_limit: found.iter().all(|(can_write, _)| *can_write),
        }
    }

    /// The group of a controller, and whether this process may divide it.
    fn cgroup(&self, own: &ProcCgroup<'_>, controller: &str) -> Option<(bool, String)> {
        if let Some(dir) = own.of_controller(controller) {
            return Some(((self.can_write)(&dir), format!("{} (v1)", dir.display())));
        }
        let (dir, _) = own.of_v2()?;
        if !self.text(dir.join("cgroup.controllers")).split(' ').any(|it| it == controller) {
            return None;
        }
        let files = ["", "cgroup.procs", "cgroup.subtree_control"];
        let can_write = files.iter().all(|file| (self.can_write)(&dir.join(file)));
        Some((can_write, format!("{} (v2)", dir.display())))
    }

    /// What this process was started by, if a file tells.
    pub(super) fn platform(&self) -> Option<Platform> {
        let exists = |path: &str| (self.read)(Path::new(path)).is_some();
        if exists("/var/run/secrets/kubernetes.io/serviceaccount/namespace") {
            return Some(Platform::Kubernetes);
        }
        // An image of a machine may have the first file too. Only a container has this mount.
        let mountinfo = self.text("/proc/self/mountinfo");
        let is_mounted = MountPoint::all(&mountinfo).iter().any(|it| it.path == "/etc/resolv.conf");
        if is_mounted && (exists("/.dockerenv") || exists("/run/.containerenv")) {
            return Some(Platform::Docker);
        }
        let is_in_unit = self.text("/proc/self/cgroup").lines().any(|line| line.ends_with(".service"));
        is_in_unit.then_some(Platform::Systemd)
    }

    /// Whether systemd manages this machine's processes.
    pub(super) fn has_systemd(&self) -> bool {
        self.text("/proc/1/comm") == "systemd"
    }

    /// A file's content without the space around it; empty if the file cannot be read.
    fn text(&self, path: impl AsRef<Path>) -> String {
        (self.read)(path.as_ref()).unwrap_or_default().trim().to_owned()
    }
}
