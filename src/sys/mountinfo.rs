//! What is mounted, as `/proc/self/mountinfo` says it.

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug)]
pub(crate) struct MountPoint<'a> {
    pub(crate) id: &'a str,
    pub(crate) parent: &'a str,
    /// What of its file system is shown.
    pub(crate) root: &'a str,
    /// Where that is shown.
    pub(crate) path: &'a str,
    pub(crate) fs: &'a str,
    /// The file system's own: of cgroup v1, its controllers.
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
