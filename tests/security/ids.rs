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

/// The ids that the test of reservations uses, and how many containers have room in them.
const RANGE: std::ops::Range<u32> = 1_900_200_000..1_900_200_008;
const ROOM: usize = 4;

/// Binds all names of the range, and listens.
const SQUAT: &str = "import socket, sys, time
held = []
for first in range(1_900_200_000, 1_900_200_008, 2):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        it = socket.socket(socket.AF_UNIX, kind)
        it.bind('\\0cellblock-ids-%d' % first)
        if kind != socket.SOCK_DGRAM and first % 4: it.listen()
        held.append(it)
print('held', flush=True)
time.sleep(60)";

/// Another user of the machine, who takes every name.
struct Squatter(std::process::Child);

impl Squatter {
    fn start(through: &[&str]) -> Self {
        let words = [through, &["/usr/bin/python3", "-Sc", SQUAT]].concat();
        let mut command = HostCommand::new(words[0]);
        let mut squatter = command.args(&words[1..]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        crate::common::read_up_to("held", &mut squatter);
        Self(squatter)
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const ORDINARY_USER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// Builds as many containers as the range has room for, and one more. Returns how many it got.
pub(super) async fn fill_range() -> usize {
    let mut containers = Vec::new();
    while containers.len() <= ROOM {
        match builder().id_range(RANGE).build().await {
            Ok(container) => containers.push(container),
            Err(error) => {
                assert!(error.to_string().contains("every id of the range is in use"), "{error}");
                break;
            }
        }
    }
    for container in &containers {
        container.destroy().await;
    }
    containers.len()
}

#[tokio::test]
async fn an_ordinary_user_cannot_take_the_ids_of_root() {
    if !is_root() {
        skip("only root has a directory and ids that other users cannot take");
        return;
    }
    let other_host = |through: &[&str]| {
        let output = crate::common::another_host("fill the range of ids", through).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().find_map(|line| line.strip_prefix("containers ")?.parse::<usize>().ok()).expect(&said)
    };
    assert_eq!((fill_range().await, other_host(&[])), (ROOM, ROOM), "they are free again once the inits are dead");
    let squatter = Squatter::start(&ORDINARY_USER);
    assert_eq!(fill_range().await, ROOM);
    // A host of another user that root trusts: of root itself.
    let one = builder().id_range(RANGE).build().await.unwrap();
    assert_eq!(other_host(&[]), ROOM - 1, "an id that is in use is not used again");
    // The control: a host that cannot have a file in /run has the names alone.
    let without_run = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o ro tmpfs /run && exec \"$@\"", "sh"];
    assert_eq!(other_host(&without_run), 0, "the control");
    one.destroy().await;
    drop(squatter);
    // Names keep hosts apart that do not share the file.
    let one = builder().id_range(RANGE).build().await.unwrap();
    assert_eq!(other_host(&without_run), ROOM - 1);
    one.destroy().await;
    let _root = Squatter::start(&["env"]);
    assert!(fill_range().await < ROOM, "root's own names are respected");
}

/// Only root's file, which no other user can open, locks ids.
#[tokio::test]
async fn another_user_cannot_lock_ids_in_the_file_of_root() {
    if !is_root() {
        skip("another user's hosts lock ids in a file of that user's");
        return;
    }
    let _container = container().await;
    let open = "try: open('/run/cellblock-ids'); print('works')\nexcept OSError as error: print(error.strerror)";
    let said = |through: &[&str]| {
        let words = [through, &["/usr/bin/python3", "-Sc", open]].concat();
        String::from_utf8(HostCommand::new(words[0]).args(&words[1..]).output().unwrap().stdout).unwrap()
    };
    assert_eq!(said(&ORDINARY_USER).trim(), "Permission denied");
    assert_eq!(said(&["env"]).trim(), "works", "the control");
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
