//! Containers whose "/" is a tree: what programs see of it and change in it, and what stays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cellblock::{Command, ContainerBuilder, ErrorKind, Mount, Root, mount::Tmpfs, seccomp::Filter};

use crate::baseline::overlays_delete_directories;
use crate::common::{builder, is_root, lacks, open_dir, says};

const BUSYBOX: &str = "/bin/busybox";

/// A root of busybox, with a few names for it, `/etc` and a directory with files. `None` on a
/// machine without a static busybox.
fn small_root() -> Option<tempfile::TempDir> {
    if !Path::new(BUSYBOX).exists() {
        lacks("a static busybox");
        return None;
    }
    let dir = open_dir();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::create_dir_all(at("etc")).unwrap();
    fs::create_dir_all(at("srv/deep")).unwrap();
    fs::copy(BUSYBOX, at("usr/bin/busybox")).unwrap();
    fs::set_permissions(at("usr/bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in "sh cat ls rm mkdir mv touch stat head wc chmod ln readlink id env pwd find sort df".split(' ') {
        symlink("busybox", at("usr/bin").join(name)).unwrap();
    }
    symlink("usr/bin", at("bin")).unwrap();
    fs::write(at("etc/os-release"), "ID=small\n").unwrap();
    fs::write(at("srv/deep/file"), "the tree's").unwrap();
    Some(dir)
}

fn over(tree: &tempfile::TempDir) -> ContainerBuilder {
    builder().root(Root::directory(tree.path()))
}

/// Runs a shell script of the tree, found in PATH.
fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Every path of a tree, with its mode, owner, times and content.
fn everything(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            }
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => fs::read(&path).unwrap(),
        };
        let hash = content.iter().fold(content.len() as u64, |hash, byte| hash.rotate_left(5) ^ u64::from(*byte));
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let state = format!("{:o} {} {} {:?} {hash}", meta.mode(), meta.uid(), meta.gid(), times);
        found.insert(path, state);
    }
    found
}

#[tokio::test]
async fn programs_see_the_tree_and_nothing_of_the_host() {
    let Some(tree) = small_root() else { return };
    let container = over(&tree).build().await.unwrap();
    assert_eq!(says(&container, &sh("cat /etc/os-release /srv/deep/file; pwd")).await, "ID=small\nthe tree's/w");
    assert_eq!(says(&container, &sh("ls /")).await, "bin\ndev\netc\nproc\nsrv\ntmp\nusr\nw");
    assert_eq!(says(&container, &sh("ls /usr /etc")).await, "/etc:\nhosts\nos-release\nresolv.conf\n\n/usr:\nbin");
    let mounts = says(&container, &sh("cat /proc/self/mountinfo")).await;
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let expected =
            ["/", "/tmp", "/w"].contains(&fields[4]) || ["/dev/", "/proc"].iter().any(|it| fields[4].starts_with(it));
        assert!(expected, "{line}");
        assert!(fields[5].contains("nosuid") && !line.contains(tree.path().to_str().unwrap()), "{line}");
        assert!(fields[4].starts_with("/dev/") || fields[5].contains("nodev"), "{line}");
    }
    let devices =
        says(&container, &sh("ls /dev; head -c 3 /dev/zero | wc -c; echo x >/dev/null; ls /proc/self/fd")).await;
    assert!(devices.starts_with("fd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n3\n"), "{devices}");
}

#[tokio::test]
async fn a_program_may_change_the_whole_tree_and_a_reset_restores_it() {
    if !overlays_delete_directories().await {
        return;
    }
    let Some(tree) = small_root() else { return };
    let on_host = everything(tree.path());
    let container = over(&tree).build().await.unwrap();
    let look = "find / -xdev | sort; cat /srv/deep/file /etc/os-release; stat -c '%a %u' / /etc /srv/deep/file";
    let before = says(&container, &sh(look)).await;
    let first = container.fingerprint().await.unwrap();
    let changes = [
        "echo changed >/srv/deep/file; rm /etc/os-release; echo x >/new; mkdir -p /etc/a/b",
        "rm -rf /srv /etc; ln -s /tmp /srv; ln -s /dev /etc",
        "chmod 700 /; chmod 777 /etc /srv/deep/file",
        "touch /w/x; rm /dev/fd && mkdir /dev/fd && touch /dev/x; :",
        "mkdir /srv/q; mv /srv/deep/file /srv/q; mv /srv/q /srv/r; rm -rf /usr/bin/[a-r]*",
        ":",
    ];
    for change in changes.into_iter().chain(changes) {
        assert!(container.run(&sh(change)).await.unwrap().status.success(), "{change}");
        if change != ":" {
            assert_ne!(container.fingerprint().await.unwrap(), first, "the control: {change}");
        }
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh(look)).await, before, "after {change}");
        assert_eq!(container.fingerprint().await.unwrap(), first, "after {change}");
    }
    assert_eq!(everything(tree.path()), on_host, "the tree on the host is unchanged");
}

#[tokio::test]
async fn files_of_the_trees_owner_belong_to_the_program() {
    let Some(tree) = small_root() else { return };
    if is_root() {
        std::os::unix::fs::chown(tree.path().join("srv/deep"), Some(12345), Some(12345)).unwrap();
    }
    let container = over(&tree).build().await.unwrap();
    let owner = if is_root() { "65534" } else { "0" };
    let own = says(&container, &sh("id -u")).await;
    assert_eq!(
        says(&container, &sh("stat -c %u / /etc /srv/deep; : >/etc/os-release")).await,
        format!("{own}\n{own}\n{owner}")
    );
    let denied = container.run(&sh(": >/srv/deep/new")).await.unwrap();
    assert_eq!(denied.status.success(), !is_root(), "a file of another owner is not the program's");
}

#[tokio::test]
async fn a_program_is_found_in_the_runs_path_within_the_root() {
    let Some(tree) = small_root() else { return };
    fs::create_dir(tree.path().join("opt")).unwrap();
    symlink("/usr/bin/busybox", tree.path().join("opt/echo")).unwrap();
    let container = over(&tree).build().await.unwrap();
    let mut echo = Command::new("echo");
    echo.arg("found");
    let error = container.run(&echo).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)), "the control");
    assert_eq!(says(&container, echo.env("PATH", "/nowhere:/opt")).await, "found");
    let error = container.run(&Command::new("python3")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exec, "a program of the host is not there: {error}");
}

#[tokio::test]
async fn the_host_opens_and_deletes_files_of_the_root() {
    let Some(tree) = small_root() else { return };
    let container = over(&tree).work_dir("/srv").build().await.unwrap();
    assert_eq!(container.read("deep/file", 100).await.unwrap(), b"the tree's");
    container.file("deep/file").mode(0o600).write("mine").await.unwrap();
    container.delete("/etc/os-release").await.unwrap();
    assert!(container.symlink([("deep/file", "/srv/link")]).await.unwrap()[0].is_ok());
    assert_eq!(says(&container, &sh("cat deep/file link; ls /etc")).await, "mineminehosts\nresolv.conf");
    let error = container.read("link", 100).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    container.reset().await.unwrap();
    assert_eq!(
        says(&container, &sh("cat /srv/deep/file; ls /etc /srv")).await,
        "the tree's/etc:\nhosts\nos-release\nresolv.conf\n\n/srv:\ndeep"
    );
}

#[tokio::test]
async fn the_changes_of_a_root_are_limited() {
    let Some(tree) = small_root() else { return };
    let root = Root::directory(tree.path()).changes(Tmpfs::new().bytes(1 << 20).inodes(60));
    let container = builder().root(root).build().await.unwrap();
    let fill = "head -c 2M /dev/zero >/srv/big 2>/dev/null; stat -c %s /srv/big; \
                for i in 1 2 3 4 5 6 7 8 9; do mkdir /srv/$i /srv/a$i /srv/b$i /srv/c$i /srv/d$i /srv/e$i /srv/f$i; done \
                2>/dev/null; ls /srv | wc -l";
    for _ in 0..2 {
        let said = says(&container, &sh(fill)).await;
        let (size, names) = said.split_once('\n').unwrap();
        assert!(size.parse::<u64>().unwrap() <= 1 << 20 && names.parse::<u32>().unwrap() < 65, "{said}");
        container.reset().await.unwrap();
    }
}

#[tokio::test]
async fn mounts_over_a_root_survive_a_reset() {
    let Some(tree) = small_root() else { return };
    let data = open_dir();
    fs::write(data.path().join("f"), "data").unwrap();
    fs::create_dir(data.path().join("scratch")).unwrap();
    let container = over(&tree)
        .mount(Mount::bind(data.path(), "/srv/data"))
        .mount(Mount::tmpfs("/srv/data/scratch", Tmpfs::new()))
        .mount(Mount::overlay([data.path()], "/prepared", Tmpfs::new()))
        .mount(Mount::bind(data.path().join("f"), "/etc/deep/er/file"))
        .masked_paths(["/etc/os-release", "/srv/deep"])
        .build()
        .await
        .unwrap();
    let look =
        sh("cat /srv/data/f /prepared/f /etc/deep/er/file /etc/os-release; ls /srv/data/scratch /srv/deep; pwd; \
                   cat /proc/self/mountinfo | wc -l");
    let before = says(&container, &look).await;
    assert!(before.starts_with("datadatadata/srv/data/scratch:\n\n/srv/deep:\n/w\n"), "{before}");
    for change in [
        "echo x >/prepared/f; touch /srv/data/scratch/x",
        "touch /x; echo x >/prepared/f; touch /srv/data/scratch/x",
        "mkdir /w/x; mv /etc/deep /w/x 2>/dev/null || mv /etc /etc2; mkdir -p /etc/deep/er; echo mine >/etc/deep/er/file",
        ":",
    ] {
        container.run(&sh(change)).await.unwrap();
        container.reset().await.unwrap();
        assert_eq!(says(&container, &look).await, before, "after {change}");
    }
}

#[tokio::test]
async fn no_path_and_no_call_leads_out_of_the_root() {
    let Some(tree) = small_root() else { return };
    let secret = open_dir();
    fs::write(secret.path().join("secret"), "of the host").unwrap();
    let outside = secret.path().join("secret");
    symlink(&outside, tree.path().join("link")).unwrap();
    symlink(format!("../../../../../..{}", outside.display()), tree.path().join("relative")).unwrap();
    let source = "#define _GNU_SOURCE\n#include <errno.h>\n#include <fcntl.h>\n#include <sched.h>\n#include <stdio.h>\n\
                  #include <sys/mount.h>\n#include <sys/stat.h>\n#include <unistd.h>\n\
                  static void say(const char *what, long result) { printf(\"%s %d\\n\", what, result < 0 ? errno : 0); }\n\
                  int main(void) {\n\
                  int root = open(\"/\", O_RDONLY); mkdir(\"/w/x\", 0755);\n\
                  say(\"chroot\", chroot(\"/w/x\")); say(\"fchdir\", fchdir(root));\n\
                  for (int i = 0; i < 64; i++) chdir(\"..\");\n\
                  say(\"upper\", open(\"layers\", O_RDONLY)); say(\"next\", open(\"next\", O_RDONLY));\n\
                  say(\"w\", open(\"w\", O_RDONLY));\n\
                  say(\"unshare\", unshare(CLONE_NEWUSER)); say(\"umount\", umount2(\"/\", MNT_DETACH));\n\
                  say(\"remount\", mount(0, \"/\", 0, MS_REMOUNT | MS_BIND, 0));\n\
                  say(\"of pid 1\", open(\"/proc/1/root/layers\", O_RDONLY)); }";
    let dir = open_dir();
    let program = dir.path().join("escape");
    crate::common::cc_static(source, &program);
    for filter in [Filter::default(), Filter::Off] {
        let container = over(&tree).filter(filter).build().await.unwrap();
        let escape = Command::from_fd("escape", fs::File::open(&program).unwrap());
        let said = says(&container, &escape).await;
        // Without the filter the kernel refuses the namespace.
        let refused = if filter == Filter::Off { libc::ENOSPC } else { libc::EPERM };
        let expected = format!("chroot 1\nfchdir 0\nupper 2\nnext 2\nw 0\nunshare {refused}\numount 1\nremount 1\n");
        assert!(said.starts_with(&expected), "{filter:?}: {said}");
        assert!(["of pid 1 2", "of pid 1 13"].iter().any(|end| said.ends_with(end)), "{filter:?}: {said}");
        for path in ["/link", "/relative", "../../../../link"] {
            let report = container.run(&sh(&format!("cat {path} 2>/dev/null"))).await.unwrap();
            assert!(!report.status.success(), "{path}");
        }
        container.reset().await.unwrap();
        assert_eq!(says(&container, &escape).await, said, "after a reset");
    }
    assert_eq!(fs::read_to_string(tree.path().join("link")).unwrap(), "of the host", "the control");
}

#[tokio::test]
async fn a_mount_at_the_root_is_refused_with_a_word_on_what_to_use() {
    let tree = open_dir();
    for mount in [
        Mount::bind(tree.path(), "/"),
        Mount::overlay([tree.path()], "/", Tmpfs::new()),
        Mount::tmpfs("//", Tmpfs::new()),
    ] {
        let error = builder().mount(mount).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("ContainerBuilder::root"), "{error}");
    }
}

#[tokio::test]
async fn a_root_that_is_no_directory_is_an_error_with_its_path() {
    let tree = open_dir();
    let file = tree.path().join("file");
    fs::write(&file, "").unwrap();
    let missing = tree.path().join("missing");
    let error = builder().root(Root::directory(&missing)).build().await.unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Build, Some(missing.as_path())), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    let error = builder().root(Root::directory(&file)).build().await.unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Build, Some(file.as_path())), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
}

#[tokio::test]
async fn a_tree_that_lacks_everything_takes_a_program_by_descriptor() {
    if !Path::new(BUSYBOX).exists() {
        lacks("a static busybox");
        return;
    }
    let empty = open_dir();
    let container = builder().root(Root::directory(empty.path())).build().await.unwrap();
    let mut ls = Command::from_fd("ls", fs::File::open(BUSYBOX).unwrap());
    ls.args(["-A", "/"]);
    assert_eq!(says(&container, &ls).await, "dev\netc\nproc\ntmp\nw");
}

/// Opt-in, because it needs a tree: `CELLBLOCK_TEST_DEBIAN` names one that debootstrap has made.
#[tokio::test]
async fn a_debian_root_runs_its_own_programs() {
    let Some(debian) = std::env::var_os("CELLBLOCK_TEST_DEBIAN") else {
        crate::common::skip("CELLBLOCK_TEST_DEBIAN names no Debian root");
        return;
    };
    let container = builder().root(Root::directory(&debian)).build().await.unwrap();
    let first = says(&container, &sh("dpkg --print-architecture; perl -e 'print 6*7'; ls / | wc -l")).await;
    says(&container, &sh("rm -r /etc; mkdir /etc; rm -r /usr/share /var; echo x >/root-file")).await;
    container.reset().await.unwrap();
    assert_eq!(says(&container, &sh("dpkg --print-architecture; perl -e 'print 6*7'; ls / | wc -l")).await, first);
}
