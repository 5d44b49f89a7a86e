//! This process's own place in the hierarchies of control groups, as its files in proc describe it.

use std::path::{Component, Path, PathBuf};

use crate::sys::mountinfo::MountPoint;

/// This process's own groups, and the mount points of the hierarchies.
pub(crate) struct ProcCgroup<'a> {
    /// The controllers, which are empty for cgroup v2, and the path (proc_pid_cgroup(5)).
    groups: Vec<(&'a str, &'a Path)>,
    mounts: Vec<MountPoint<'a>>,
}

impl<'a> ProcCgroup<'a> {
    /// Parses the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    pub(crate) fn parse(groups: &'a str, mountinfo: &'a str) -> Self {
        let group = |line: &'a str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers, Path::new(path)))
        };
        Self { groups: groups.lines().filter_map(group).collect(), mounts: MountPoint::all(mountinfo) }
    }

    /// This process's own group in the v1 hierarchy of a controller.
    pub(crate) fn of_controller(&self, controller: &str) -> Option<PathBuf> {
        let is_named = |names: &str| names.split(',').any(|name| name == controller);
        let (_, group) = self.groups.iter().find(|(controllers, _)| is_named(controllers))?;
        let mut mounts = self.mounts.iter().filter(|mount| mount.fs == "cgroup" && is_named(mount.options));
        mounts.find_map(|mount| below(mount, group))
    }

    /// This process's own group in the v2 hierarchy, and the mount point of that hierarchy.
    pub(crate) fn of_v2(&self) -> Option<(PathBuf, &'a Path)> {
        let (_, group) = self.groups.iter().find(|(controllers, _)| controllers.is_empty())?;
        let mut mounts = self.mounts.iter().filter(|mount| mount.fs == "cgroup2");
        mounts.find_map(|mount| Some((below(mount, group)?, Path::new(mount.path))))
    }
}

/// The directory of a group, if the group is below the root of this mount.
fn below(mount: &MountPoint<'_>, group: &Path) -> Option<PathBuf> {
    let below = group.strip_prefix(mount.root).ok()?;
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| Path::new(mount.path).join(below).components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn each_controller_is_found_in_its_hierarchy() {
        let own = ProcCgroup::parse("4:memory:/docker/abc/x\n2:cpu,cpuacct:/\n1:name=systemd:/y\n0::/z\n", HYBRID);
        let path = |controller| own.of_controller(controller).map(|path| path.display().to_string());
        assert_eq!(path("memory").as_deref(), Some("/sys/fs/cgroup/memory/x"));
        assert_eq!(path("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(path("cpu"), path("cpuacct"), "one directory for both");
        assert_eq!(path("pids"), None);
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(own.of_v2(), Some((unified.join("z"), unified)));
    }

    #[test]
    fn a_group_outside_of_the_mount_is_not_found() {
        // As seen from a cgroup namespace whose root is elsewhere.
        let own = ProcCgroup::parse("4:memory:/../other\n0::/../x\n", HYBRID);
        assert_eq!(own.of_controller("memory"), None);
        assert_eq!(own.of_v2(), None);
    }
}
