//! What a reset removes and keeps, and the fingerprint that verifies it.

use std::time::Duration;

use cellblock::{ErrorKind, container::Fingerprint, seccomp::Filter};
use cellblock::{Mount, mount::Tmpfs};

use crate::common::open_dir;
use crate::common::{builder, container, is_root, python, says, sh};

/// Makes one System V IPC object of each kind, or prints which exist.
const OBJECTS: &str = "import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
flag = 0o1600 if sys.argv[1] == 'make' else 0
made = [libc.shmget(77, 4096, flag), libc.semget(77, 1, flag), libc.msgget(77, flag)]
print([it >= 0 for it in made])";

fn objects(what: &str) -> cellblock::Command {
    let mut command = python(OBJECTS);
    command.arg(what);
    command
}

#[tokio::test]
async fn a_reset_restores_every_tmpfs() {
    let container = container().await;
    let look = sh("cd /; stat -c '%n %a %u %g %h' /w /tmp; ls -A /w /tmp; df --output=iused,used /w /tmp; pwd");
    let fresh = says(&container, &look).await;
    for mess in [
        "touch /tmp/f; mkdir -p /w/a/b; echo x > /w/a/b/c; ln -s / /w/l; chmod 700 /tmp; mkfifo /w/p",
        "chmod 0 /w /tmp",
        "touch \"$(printf 'new\\nline')\"; touch \"$(printf '\\377')\"; mkdir -m 0 closed",
        "touch /tmp/f; rm /tmp/f; setfacl -m u:0:rwx /tmp 2>/dev/null; :",
        ":",
    ] {
        says(&container, &sh(mess)).await;
        container.reset().await.unwrap();
        assert_eq!(says(&container, &look).await, fresh, "after {mess}");
    }
}

#[tokio::test]
async fn a_reset_keeps_mounts_within_a_tmpfs() {
    let host = open_dir();
    std::fs::write(host.path().join("f"), "the host's").unwrap();
    let container = builder()
        .mount(Mount::bind(host.path(), "/w/bound"))
        .mount(Mount::tmpfs("/w/inner", Tmpfs::new().bytes(4 << 20)))
        .work_dir("/w/deeper/down")
        .build()
        .await
        .unwrap();
    let mounts = sh("pwd; cut -d' ' -f5- /proc/self/mountinfo | sed 's/ - .*//' | sort");
    let before = says(&container, &mounts).await;
    assert!(before.starts_with("/w/deeper/down\n"));
    says(&container, &sh("touch here /w/inner/there")).await;
    container.reset().await.unwrap();
    assert_eq!(says(&container, &mounts).await, before);
    assert_eq!(says(&container, &sh("ls -A . /w/inner; cat /w/bound/f")).await, ".:\n\n/w/inner:\nthe host's");
}

#[tokio::test]
async fn a_reset_waits_for_the_runs_before_it() {
    let container = container().await;
    let slow = sh("sleep 0.2; echo done > /w/f");
    let (run, reset) = tokio::join!(container.run(&slow), async {
        tokio::task::yield_now().await;
        container.reset().await
    });
    assert!(run.unwrap().status.success());
    reset.unwrap();
    assert_eq!(says(&container, &sh("ls -A")).await, "");
}

#[tokio::test]
async fn a_reset_frees_thousands_of_files_and_directories() {
    let container = container().await;
    let deep = "import os
for i in range(4000): open(f'f{i}', 'w').close()
for i in range(4000): os.mkdir('d'); os.chdir('d')";
    says(&container, &python(deep)).await;
    container.reset().await.unwrap();
    assert_eq!(says(&container, &sh("ls -A; pwd")).await, "/w");
}

#[tokio::test]
async fn a_reset_removes_ipc_objects() {
    let container = container().await;
    let first = container.fingerprint().await.unwrap();
    let (all, none) = ("[True, True, True]", "[False, False, False]");
    assert_eq!(says(&container, &objects("find")).await, none);
    assert_eq!(says(&container, &objects("make")).await, all);
    assert_eq!(says(&container, &objects("find")).await, all, "the control: without a reset they stay");
    assert_eq!(container.fingerprint().await.unwrap().ipc, [1, 1, 1]);
    container.reset().await.unwrap();
    assert_eq!(says(&container, &objects("find")).await, none);
    assert_eq!(container.fingerprint().await.unwrap(), first);
}

#[tokio::test]
async fn a_reset_restores_the_first_fingerprint() {
    let container = builder().symlink("/etc/hostname", "/w/a/link").build().await.unwrap();
    let first = container.fingerprint().await.unwrap();
    for left in [
        "echo x > f; mkdir -p d/e; ln -s f l; mkfifo p",
        "chmod 0 /w; chmod 1777 /tmp",
        "cd /tmp; i=0; while [ $i -lt 300 ]; do : > $i; i=$((i+1)); done",
        "head -c 3000000 /dev/zero > big",
        "rm -rf a",
    ] {
        assert!(container.run(&sh(left)).await.unwrap().status.success());
        assert_ne!(container.fingerprint().await.unwrap(), first, "the control: {left}");
        container.reset().await.unwrap();
        assert_eq!(container.fingerprint().await.unwrap(), first, "{left}");
        assert_eq!(says(&container, &sh("readlink /w/a/link")).await, "/etc/hostname");
    }
}

#[tokio::test]
async fn a_container_whose_fingerprint_differs_is_lost() {
    // Changes the limits of the init. A program without a filter can do that if it has the init's
    // id; the host does it if programs have their own ids.
    let container = builder().filter(Filter::Off).build().await.unwrap();
    if is_root() {
        let mut command = sh(":");
        command.pid_hook(|pid, _| async move {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let init = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
            let limited = std::process::Command::new("prlimit").args(["--pid", init, "--nofile=100:200"]).status()?;
            assert!(limited.success());
            Ok(())
        });
        assert!(container.run(&command).await.unwrap().status.success());
    } else {
        let attack = python("import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (100, 200))");
        assert_eq!(says(&container, &attack).await, "");
        let filtered = builder().build().await.unwrap();
        assert!(!filtered.run(&attack).await.unwrap().status.success(), "the filter refuses the attack");
        filtered.reset().await.unwrap();
    }
    let error = container.reset().await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::File, Some("compare_fingerprint")), "{error}");
    assert!(error.to_string().contains("resource limits"), "{error}");
    let error = container.ping(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Lost && error.to_string().contains("resource limits"), "{error}");
    assert_eq!(container.death().await.kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn fingerprint_differences_have_names() {
    let container = container().await;
    let first = container.fingerprint().await.unwrap();
    container.write("f", *b"x").await.unwrap();
    let now = container.fingerprint().await.unwrap();
    assert_eq!(now.differences(&first), ["what is at /w"]);
    assert_eq!(first.differences(&first), [""; 0]);
    let text = serde_json::to_string(&now).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), now);
}
