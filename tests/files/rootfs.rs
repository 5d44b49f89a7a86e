//! The root file system, the namespaces and the ids of a container.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use cellblock::{Error, ErrorKind, Mount, mount::Tmpfs};

use crate::common::{builder, container, is_root, open_dir, processes_with, python, says, sh};

async fn refused(builder: cellblock::ContainerBuilder) -> Error {
    builder.build().await.unwrap_err()
}

#[tokio::test]
async fn the_root_is_minimal_and_read_only() {
    let container = container().await;
    let entries = says(&container, &sh("ls -A /")).await;
    let entries: BTreeSet<_> = entries.lines().collect();
    for expected in ["bin", "dev", "etc", "lib", "proc", "tmp", "usr", "w"] {
        assert!(entries.contains(expected), "{entries:?}");
    }
    for host_only in ["root", "home", "var", "sys", "run", "old_root"] {
        assert!(!entries.contains(host_only), "{entries:?}");
    }
    for path in
        ["/f", "/etc/f", "/dev/f", "/usr/f", "/bin/f", "/etc/ld.so.cache", "/etc/passwd", "/proc/f", "/proc/stat"]
    {
        assert!(!container.run(&sh(&format!("echo x > {path}"))).await.unwrap().status.success(), "{path}");
    }
    assert_eq!(
        says(&container, &sh("ls -A /dev; ls -A /w /tmp /dev/shm")).await,
        "fd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n/dev/shm:\n\n/tmp:\n\n/w:"
    );
    assert_eq!(
        says(&container, &sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 9 /dev/urandom | wc -c")).await,
        "3\n9"
    );
}

#[tokio::test]
async fn every_mount_has_the_strictest_flags() {
    let container = container().await;
    let mounts = says(&container, &sh("cat /proc/self/mountinfo")).await;
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let (target, options): (_, BTreeSet<_>) = (fields[4], fields[5].split(',').collect());
        assert!(options.contains("nosuid"), "{line}");
        let is_own = ["/w", "/tmp", "/dev/shm"].contains(&target);
        assert_eq!(options.contains("nodev"), is_own || !target.starts_with("/dev/"), "{line}");
        assert_eq!(options.contains("ro"), !is_own, "{line}");
        assert!(fields[6] == "-", "nothing propagates: {line}");
        if target == "/" {
            assert!(options.contains("noatime"), "{line}");
        }
    }
    assert!(mounts.lines().count() > 10);
}

#[tokio::test]
async fn proc_shows_only_the_programs_own_process() {
    let container = container().await;
    let seen = says(&container, &python("import os; print(sorted(os.listdir('/proc')), os.getpid())")).await;
    let (entries, own) = seen.rsplit_once(' ').unwrap();
    assert_eq!(entries, format!("['{own}', 'self', 'thread-self']"));
}

#[tokio::test]
async fn the_builder_sets_host_and_domain_name() {
    let container = builder().hostname("judge").domainname("cells").build().await.unwrap();
    assert_eq!(says(&container, &python("import os; u = os.uname(); print(u.nodename)")).await, "judge");
    let domain =
        "import ctypes; b = ctypes.create_string_buffer(65); ctypes.CDLL(None).getdomainname(b, 65); print(b.value)";
    assert_eq!(says(&container, &python(domain)).await, "b'cells'");
    let error = refused(builder().hostname("x".repeat(65))).await;
    assert_eq!((error.kind(), error.step(), error.raw_os_error()), (ErrorKind::Build, Some("set_host_name"), Some(22)));
}

#[tokio::test]
async fn the_network_is_empty() {
    let container = container().await;
    let attack = "import socket
print(socket.if_indextoname(1))
try: socket.if_indextoname(2)
except OSError: print('and no other')
s = socket.socket()
for address in ['127.0.0.1', '169.254.169.254', '8.8.8.8']:
    print(s.connect_ex((address, 80)))";
    let enetunreach = libc::ENETUNREACH;
    let said = says(&container, &python(attack)).await;
    assert_eq!(said, format!("lo\nand no other\n{enetunreach}\n{enetunreach}\n{enetunreach}"));
}

#[tokio::test]
async fn a_container_has_its_own_namespaces() {
    let container = container().await;
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let inside = says(&container, &sh(&format!("readlink /proc/self/ns/{namespace}"))).await;
        let outside = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(inside, outside.to_str().unwrap());
    }
}

#[tokio::test]
async fn binds_are_read_only_or_writable_as_asked() {
    let host = open_dir();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(host.path().join("f"), "content").unwrap();
    let container = builder()
        .mount(Mount::bind(host.path(), "/ro"))
        .mount(Mount::bind_writable(host.path(), "/rw"))
        .mount(Mount::bind(host.path().join("f"), "/deep/er/file"))
        .mount(Mount::bind("/no/such/thing", "/skipped").skip_missing())
        .build()
        .await
        .unwrap();
    assert_eq!(
        says(&container, &sh("cat /ro/f /rw/f /deep/er/file; ls -d /skipped 2>/dev/null || :")).await,
        "contentcontentcontent"
    );
    assert!(!container.run(&sh("echo x > /ro/new")).await.unwrap().status.success());
    says(&container, &sh("echo x > /rw/new")).await;
    container.write("/rw/written", "by the host").await.unwrap();
    let program = fs::metadata(host.path().join("new")).unwrap();
    let library = fs::metadata(host.path().join("written")).unwrap();
    assert_eq!((program.uid(), program.gid()), (library.uid(), library.gid()));
}

#[tokio::test]
async fn a_read_only_bind_covers_its_submounts() {
    // /dev/shm is a separate mount below /dev, writable for every user.
    let container = builder()
        .mount(Mount::bind("/dev", "/hostdev"))
        .mount(Mount::bind_writable("/dev", "/control"))
        .build()
        .await
        .unwrap();
    let name = format!("cellblock-test-{}", std::process::id());
    let write = async |dir: &str| container.run(&sh(&format!("echo x > {dir}/shm/{name}"))).await.unwrap().status;
    assert!(!write("/hostdev").await.success());
    assert!(write("/control").await.success(), "the control");
    fs::remove_file(format!("/dev/shm/{name}")).unwrap();
}

#[tokio::test]
async fn a_mount_that_cannot_be_made_names_step_path_and_errno() {
    let dir = open_dir();
    let path = dir.path().join("missing");
    let error = refused(builder().mount(Mount::bind(&path, "/x"))).await;
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("open_bind_source")));
    assert_eq!((error.path(), error.raw_os_error()), (Some(path.as_path()), Some(libc::ENOENT)));
    assert!(!error.is_retryable());

    let error = refused(builder().mount(Mount::file_system("nonesuch", "/x", [("a", "b")]))).await;
    assert_eq!((error.step(), error.raw_os_error()), (Some("mount"), Some(libc::ENODEV)));
    assert_eq!(error.path().unwrap().to_str(), Some("/x"));

    let error = refused(builder().mount(Mount::tmpfs("/usr/new/dir", Tmpfs::new()))).await;
    assert_eq!((error.step(), error.raw_os_error()), (Some("make_directory"), Some(libc::EROFS)));

    for relative in [builder().work_dir("w"), builder().mount(Mount::proc("proc"))] {
        assert_eq!(refused(relative).await.kind(), ErrorKind::InvalidInput);
    }
    let error = refused(builder().mount(Mount::proc("/a/../../b"))).await;
    assert_eq!((error.step(), error.raw_os_error()), (Some("make_directory"), Some(libc::EINVAL)));
    assert!(!dir.path().join("x").exists());
}

#[tokio::test]
async fn a_link_in_a_bound_directory_leads_no_mount_out_of_the_root() {
    let host = open_dir();
    std::os::unix::fs::symlink("/", host.path().join("link")).unwrap();
    let outside = format!("/tmp/cellblock-test-{}", std::process::id());
    let target = format!("/bound/link{outside}");
    let error =
        refused(builder().mount(Mount::bind_writable(host.path(), "/bound")).mount(Mount::tmpfs(target, Tmpfs::new())))
            .await;
    assert_eq!(error.step(), Some("make_directory"));
    assert!(!fs::exists(outside).unwrap());
}

#[tokio::test]
async fn any_file_system_can_be_mounted_by_name() {
    let container =
        builder().mount(Mount::file_system("tmpfs", "/more", [("size", "1m"), ("mode", "1777")])).build().await;
    let container = container.unwrap();
    assert_eq!(
        says(&container, &sh("echo x > /more/f; stat -c %a /more; df --output=size /more | tail -1 | tr -d ' '")).await,
        "1777\n1024"
    );
}

#[tokio::test]
async fn a_new_container_has_the_builders_symlinks() {
    let container = builder().symlink("/usr/bin", "/opt/tools").symlink("/w", "/also").build().await.unwrap();
    let script = "readlink /dev/stdout /dev/stderr; cat /dev/fd/0 /dev/stdin; readlink /opt/tools; cd /also && pwd -P";
    assert_eq!(
        says(&container, sh(script).stdin(cellblock::Stdio::bytes("in\n"))).await,
        "/proc/self/fd/1\n/proc/self/fd/2\nin\nin\n/usr/bin\n/w"
    );
    let error = refused(builder().symlink("x", "/usr/new")).await;
    assert_eq!((error.step(), error.raw_os_error()), (Some("make_symlink"), Some(libc::EROFS)));
    assert_eq!(refused(builder().symlink("x", "relative")).await.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn masked_paths_are_empty() {
    let host = open_dir();
    fs::create_dir(host.path().join("dir")).unwrap();
    for file in ["secret", "dir/secret"] {
        fs::write(host.path().join(file), "secret").unwrap();
    }
    let bound = || builder().mount(Mount::bind(host.path(), "/bound"));
    let look = sh("cat /bound/secret; ls -A /bound/dir; echo x > /bound/dir/f; echo x > /bound/secret && echo nothing");
    let masked = bound().masked_paths(["/bound/secret", "/bound/dir", "/bound/none", "/none"]).build().await.unwrap();
    let output = masked.output(&look).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing\n");
    let control = bound().build().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&control.output(&look).await.unwrap().stdout), "secretsecret\n", "the control");
}

#[tokio::test]
async fn tmpfs_limits_hold() {
    let small = Tmpfs::new().bytes(1 << 20).inodes(10);
    let container = builder().mount(Mount::tmpfs("/small", small)).build().await.unwrap();
    let fill = "head -c 2000000 /dev/zero > /small/f 2>/dev/null; stat -c %s /small/f; rm /small/f
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do touch /small/$i || break; done 2>/dev/null; ls /small | wc -l";
    let output = container.output(&sh(fill)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1048576\n9\n");
}

#[tokio::test]
async fn a_container_may_have_no_proc_and_another_work_dir() {
    let mounts = Mount::defaults(Tmpfs::new()).into_iter().filter(|mount| mount.target() != "/proc");
    let container = builder().mounts(mounts).work_dir("/home/program").build().await.unwrap();
    assert_eq!(says(&container, &sh("pwd; ls /proc 2>/dev/null || echo none")).await, "/home/program\nnone");
}

#[tokio::test]
async fn bind_sources_are_opened_with_the_hosts_rights() {
    let private = tempfile::tempdir().unwrap();
    fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let inside = private.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(inside.join("f"), "found").unwrap();
    let container = builder().mount(Mount::bind(&inside, "/inside")).build().await.unwrap();
    assert_eq!(says(&container, &sh("cat /inside/f")).await, "found");
}

#[tokio::test]
async fn containers_of_root_have_their_own_ids_and_others_the_users() {
    let mark = format!("ids{}", std::process::id());
    let containers = [container().await, container().await];
    let mut seen = BTreeSet::new();
    for (number, container) in containers.iter().enumerate() {
        let mark = format!("{mark}-{number}");
        let mut process = container.spawn(&sh(&format!("sleep 60; : {mark}"))).await.unwrap();
        crate::common::eventually("the program runs", || !processes_with(&mark).is_empty()).await;
        let program = fs::metadata(format!("/proc/{}", processes_with(&mark)[0])).unwrap();
        seen.insert((program.uid(), program.gid()));
        process.kill().await.unwrap();
    }
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if is_root() {
        assert!(seen.len() == 2 && seen.iter().all(|ids| (1_900_000_000..1_900_131_072).contains(&ids.0)), "{seen:?}");
    } else {
        assert_eq!(seen, BTreeSet::from([own]));
    }
}

#[tokio::test]
async fn containers_take_ids_from_the_range_until_it_is_exhausted() {
    let start = 1_700_000_000;
    let within = |count| builder().id_range(start..start + count);
    if !is_root() {
        let error = refused(within(10)).await;
        assert_eq!((error.step(), error.raw_os_error()), (Some("map_ids"), Some(libc::EPERM)));
        assert!(error.hint().is_some());
        return;
    }
    let container = within(2).build().await.unwrap();
    let error = refused(within(3)).await;
    assert_eq!((error.kind(), error.step()), (ErrorKind::Host, Some("reserve_ids")));
    assert!(error.is_retryable());
    assert!(within(4).build().await.is_ok(), "the next two ids are free");
    container.destroy().await;
    within(2).build().await.expect("the ids are free again when the init is reaped");
}

#[tokio::test]
async fn a_mount_inside_a_bind_does_not_appear_on_the_host() {
    // A mount in the container's copy of a tree must not appear on the host.
    let host = open_dir();
    fs::create_dir(host.path().join("place")).unwrap();
    let container = builder()
        .mount(Mount::bind_writable(host.path(), "/bound"))
        .mount(Mount::tmpfs("/bound/place", Tmpfs::new()))
        .build()
        .await
        .unwrap();
    says(&container, &sh("echo x > /bound/place/f")).await;
    assert_eq!(fs::read_dir(host.path().join("place")).unwrap().count(), 0);
    container.ping(Duration::from_secs(1)).await.unwrap();
}
