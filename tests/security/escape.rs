//! Escape: a program reaches nothing of the host but its mounts, and gains no right.

use std::os::unix::fs::PermissionsExt;

use cellblock::{ErrorKind, Mount, seccomp::Filter};

use super::*;
use crate::common::{builder, is_root, open_dir, sh};

#[tokio::test]
async fn a_program_has_only_its_streams_while_other_containers_start() {
    let container = container().await;
    let list = python("import os; print(os.listdir('/proc/self/fd')[:-1])");
    let others = async {
        for _ in 0..10 {
            builder().build().await.unwrap().destroy().await;
        }
    };
    let runs = async {
        for _ in 0..10 {
            assert_eq!(says(&container, &list).await, "['0', '1', '2']");
        }
    };
    tokio::join!(others, runs);
    let mut control = list.clone();
    control.fd(3, tempfile::tempfile().unwrap());
    assert_eq!(says(&container, &control).await, "['0', '1', '2', '3']");
}

#[tokio::test]
async fn a_working_directory_cannot_be_one_of_the_inits_descriptors() {
    let container = container().await;
    let inside = sh("pwd; stat -c %d:%i / ../../../../..");
    let said = says(&container, &inside).await;
    let said: Vec<_> = said.lines().collect();
    assert!(said[0] == "/w" && said[1] == said[2], "{said:?}");
    for number in 0..32 {
        for link in ["self", "1"] {
            // An earlier program may have left such a link.
            says(&container, &sh(&format!("ln -sfn /proc/{link}/fd/{number} dir"))).await;
            let result = container.run(inside.clone().current_dir("dir")).await;
            assert_eq!(result.expect_err(&format!("{link} {number}")).kind(), ErrorKind::Exec);
        }
    }
    assert_eq!(says(&container, inside.clone().current_dir("/proc/self/cwd")).await.lines().next(), Some("/w"));
}

#[tokio::test]
async fn a_command_cannot_pass_a_directory() {
    let container = container().await;
    let directory = || File::open("/").unwrap();
    let only_a_path =
        || nix::fcntl::open("/etc/passwd", nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
    for mut command in [sh("ls /proc/self/fd/3/etc"), sh("ls /proc/self/cwd/")] {
        for result in [
            container.run(command.fd(3, directory())).await,
            container.run(command.fd(3, only_a_path())).await,
            container.run(command.fd(3, tempfile::tempfile().unwrap()).stdin(directory())).await,
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
    let control = container.run(sh("cat <&3").fd(3, File::open("/etc/passwd").unwrap())).await.unwrap();
    assert!(control.status.success(), "a file can be passed");
}

#[tokio::test]
async fn a_container_has_only_the_requested_mounts_and_they_are_private() {
    let dir = open_dir();
    let container = builder().mount(Mount::bind_writable(dir.path(), "/data")).build().await.unwrap();
    let mounts = says(&container, &sh("cat /proc/self/mountinfo")).await;
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let (target, options, propagation) = (fields[4], fields[5].split(',').collect::<Vec<_>>(), fields[6]);
        assert_eq!(propagation, "-", "neither shared nor a slave: {line}");
        let is_device = ["null", "zero", "full", "random", "urandom"].iter().any(|it| target == format!("/dev/{it}"));
        let is_writable = ["/w", "/tmp", "/dev/shm", "/data"].contains(&target);
        assert!(options.contains(&"nosuid") && options.contains(&"nodev") != is_device, "{line}");
        assert_eq!(options.contains(&"rw"), is_writable, "{line}");
        let is_expected = ["/", "/proc", "/w", "/tmp", "/dev/shm", "/data", "/bin", "/sbin", "/usr"].contains(&target);
        assert!(
            is_expected || is_device || ["/lib", "/etc/", "/proc/"].iter().any(|it| target.starts_with(it)),
            "{line}"
        );
    }
    assert_eq!(says(&container, &sh("ls -d /old_root /sys /root /home 2>/dev/null || :")).await, "");
}

#[tokio::test]
async fn a_setuid_program_gains_nothing() {
    if !is_root() {
        skip("only root can make a setuid program that would gain something");
        return;
    }
    let dir = open_dir();
    let programs = [("setuid", 0o6755), ("capable", 0o755)];
    for (name, mode) in programs {
        let path = dir.path().join(name);
        fs::copy(&attacks().path, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // Version 2, effective (capabilities(7)). The exec fails if one of them cannot be granted, so
    // the set must be within the bounding set.
    let every = bounding_set();
    let words = [0x0200_0001, every as u32, 0, (every >> 32) as u32, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.path().join("capable"), "security.capability", &value, flags).unwrap();

    let container = builder().filter(Filter::Off).mount(Mount::bind(dir.path(), "/data")).build().await.unwrap();
    for (name, _) in programs {
        let said = says(&container, Command::new(format!("/data/{name}")).arg("ids")).await;
        let ids = "uid 1000 1000 gid 1000 1000 groups 0\n";
        assert!(said.starts_with(ids) && said.contains("\ncapabilities 0 0 0\n"), "{name}: {said}");
        let mut control = HostCommand::new("setpriv");
        control.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(dir.path().join(name)).arg("ids");
        let said = String::from_utf8(control.output().unwrap().stdout).unwrap();
        let gains = if name == "setuid" { "uid 65534 0 " } else { "uid 65534 65534 " };
        assert!(said.starts_with(gains) && !said.contains("\ncapabilities 0 0 0\n"), "{name}: {said}");
    }
}

/// The capabilities that a program can get from this process.
fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap()
}

#[tokio::test]
async fn a_device_can_be_neither_made_nor_opened() {
    let dir = open_dir();
    let node = dir.path().join("null");
    let make = |path: &std::path::Path| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        nix::sys::stat::mknod(path, nix::sys::stat::SFlag::S_IFCHR, mode, nix::sys::stat::makedev(1, 3))
    };
    let container =
        builder().filter(Filter::Off).mount(Mount::bind_writable(dir.path(), "/data")).build().await.unwrap();
    let attack = "import os
for directory in ('/w', '/tmp', '/data'):
    try: os.mknod(directory + '/device', 0o020666, 0x103)
    except PermissionError: continue
    raise SystemExit(1)";
    says(&container, &python(attack)).await;
    if is_root() {
        make(&node).unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
        File::open(&node).expect("the control: on the host it is a device");
        let output = container.output(&sh("cat /data/null")).await.unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"));
    } else {
        assert_eq!(make(&node), Err(nix::Error::EPERM));
    }
}
