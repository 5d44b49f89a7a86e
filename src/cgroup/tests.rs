//! Where groups are looked for, as files describe it.

use super::*;

fn own(groups: &str, mounts: &str) -> Own {
    Own::parse(groups, mounts)
}

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

#[test]
fn each_controller_is_found_in_its_hierarchy() {
    let own = own("4:memory:/docker/abc/x\n2:cpu,cpuacct:/\n1:name=systemd:/y\n0::/z\n", HYBRID);
    let path = |controller| own.of_controller(controller).map(|path| path.display().to_string());
    assert_eq!(path("memory").as_deref(), Some("/sys/fs/cgroup/memory/x"));
    assert_eq!(path("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/"));
    assert_eq!(path("cpu"), path("cpuacct"), "one directory for both");
    assert_eq!(path("pids"), None);
    let (group, root) = own.of_v2().unwrap();
    assert_eq!((group.as_path(), root), (Path::new("/sys/fs/cgroup/unified/z"), Path::new("/sys/fs/cgroup/unified")));
}

#[test]
fn a_group_that_is_not_below_what_is_mounted_is_not_there() {
    // As seen from a cgroup namespace whose root is elsewhere.
    let own = own("4:memory:/../other\n0::/../x\n", HYBRID);
    assert_eq!(own.of_controller("memory"), None);
    assert!(own.of_v2().is_none());
}

#[test]
fn what_a_dead_host_left_is_removed_and_what_a_live_one_has_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let (left, foreign) = (parent.path().join("cellblock-runs-1-1/box/run"), parent.path().join("cellblock-other"));
    fs::create_dir_all(&left).unwrap();
    fs::create_dir_all(&foreign).unwrap();
    let own = Directory::make(parent.path()).unwrap();
    remove_left_behind(parent.path());
    assert!(own.path.exists() && foreign.exists());
    // A directory that is no group is not empty to rmdir(2): only the deepest goes.
    drop(own);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}
