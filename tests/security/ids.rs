//! Ids: the id of a program on the host, and that it cannot change.

use std::os::unix::fs::MetadataExt;

use cellblock::{Mount, Stdio};
use tokio::io::AsyncReadExt;

use super::*;
use crate::common::{builder, has_own_ids, is_root, open_dir, sh};

/// The user id of a container's programs on the host, taken from a file that a program makes.
async fn owner(container: &Container, dir: &tempfile::TempDir, name: &str) -> u32 {
    says(container, &sh(&format!("touch /data/{name}"))).await;
    fs::metadata(dir.path().join(name)).unwrap().uid()
}

#[tokio::test]
async fn containers_with_own_ids_never_share_one() {
    let dir = open_dir();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(dir.path(), mode).unwrap();
    let build = async || builder().mount(Mount::bind_writable(dir.path(), "/data")).build().await.unwrap();
    let (one, other) = (build().await, build().await);
    let (first, second) = (owner(&one, &dir, "one").await, owner(&other, &dir, "other").await);
    let own = nix::unistd::geteuid().as_raw();
    let report = one.run(&Command::new("/bin/true")).await.unwrap();
    assert_eq!(report.protections.own_ids, has_own_ids(), "the report says so");
    if has_own_ids() {
        assert!(first != second && ![first, second].contains(&own), "{first} {second}");
        // So one container cannot touch the files of the other.
        says(&one, &sh("chmod 600 /data/one")).await;
        assert!(!other.run(&sh("cat /data/one")).await.unwrap().status.success());
        assert!(one.run(&sh("cat /data/one")).await.unwrap().status.success());
    } else {
        assert_eq!((first, second), (own, own), "the weaker mode");
    }
}

#[tokio::test]
async fn a_program_cannot_change_its_ids() {
    let container = container().await;
    let said = says(&container, &attacks().command(&["ids"])).await;
    let (uid, groups) = if has_own_ids() { (1000, 0) } else { (0, nix::unistd::getgroups().unwrap().len()) };
    let expected = format!(
        "uid {uid} {uid} gid {uid} {uid} groups {groups}
capabilities 0 0 0
setuid EPERM
setresuid to another {0}
setresgid to another {0}
setgroups EPERM",
        // The id is not mapped.
        "EINVAL"
    );
    assert_eq!(said, expected);
    let script = "! chown 0:5 /w 2>/dev/null && ! chown 7 /w 2>/dev/null && ! chgrp 1 /w 2>/dev/null && echo refused";
    assert_eq!(says(&container, &sh(script)).await, "refused");
    if is_root() {
        assert_eq!(on_host(attacks(), &["ids"])["setresuid to another"], "works", "the control");
    }
}

#[tokio::test]
async fn a_program_sees_only_its_own_processes() {
    let container = container().await;
    let see =
        python("import os; print(sorted(it for it in os.listdir('/proc') if it.isdigit()) == [str(os.getpid())])");
    assert_eq!(says(&container, &see).await, "True", "not even the init");
    let mut sleeping = container.spawn(sh("sleep 60 & echo; wait").stdout(Stdio::piped())).await.unwrap();
    sleeping.stdout.as_mut().unwrap().read_exact(&mut [0]).await.unwrap();
    sleeping.kill().await.unwrap();
    let control = python(
        "import os\nif os.fork() == 0: os.pause() if hasattr(os, 'pause') else __import__('signal').pause()\nprint(len([it for it in os.listdir('/proc') if it.isdigit()]))",
    );
    assert_eq!(says(&container, &control).await, "2");
}

#[tokio::test]
async fn a_private_file_of_the_host_stays_private() {
    if !has_own_ids() {
        skip("without own ids the program owns the files of this user");
        return;
    }
    let dir = open_dir();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let container = builder().mount(Mount::bind_writable(dir.path(), "/data")).build().await.unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    assert_eq!(says(&container, &sh("cat /data/secret")).await, "secret", "the control: every user may read it");
    fs::set_permissions(&secret, mode(0o600)).unwrap();
    for attack in
        ["cat /data/secret", "chmod 644 /data/secret", "ln /data/secret /data/l", "rm -f /data/secret", "touch /data/x"]
    {
        assert!(!container.run(&sh(attack)).await.unwrap().status.success(), "{attack}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
