//! The mounts of this process, from `/proc/self/mountinfo`.

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(crate) struct MountPoint<'a> {
    pub(crate) id: &'a str,
    pub(crate) parent: &'a str,
    /// The directory of the file system that is mounted.
    pub(crate) root: &'a str,
    /// The directory that it is mounted on.
    pub(crate) path: &'a str,
    pub(crate) fs: &'a str,
    /// The options of the file system. For cgroup v1 they name its controllers.
    pub(crate) options: &'a str,
}

impl<'a> MountPoint<'a> {
    pub(crate) fn all(mountinfo: &'a str) -> Vec<Self> {
        let parse = |line: &'a str| {
            let (mount, fs) = line.split_once(" - ")?;
            let [mut mount, mut fs] = [mount.split(' '), fs.split(' ')];
            let (id, parent) = (mount.next()?, mount.next()?);
            Some(Self { id, parent, root: mount.nth(1)?, path: mount.next()?, fs: fs.next()?, options: fs.nth(1)? })
        };
        mountinfo.lines().filter_map(parse).collect()
    }
}
