//! What a run leaves without a name in a file system, and containers that are not lent again.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use cellblock::{ErrorKind, container::Fingerprint, seccomp::Filter};
use common::{builder, container, is_root, python, says, sh};

/// Makes one object of each kind, or tells which are there.
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
async fn objects_of_one_run_are_not_there_for_the_next() {
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
async fn a_reset_container_has_its_first_fingerprint() {
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
async fn a_container_that_differs_is_not_used_again() {
    // Without the filter a program that shares the init's user can do it; as root only the host can.
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
        assert!(!filtered.run(&attack).await.unwrap().status.success(), "the filter refuses it");
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
async fn differences_have_names() {
    let container = container().await;
    let first = container.fingerprint().await.unwrap();
    container.write("f", *b"x", 0o644).await.unwrap();
    let now = container.fingerprint().await.unwrap();
    assert_eq!(now.differences(&first), ["what is at /w"]);
    assert_eq!(first.differences(&first), [""; 0]);
    let text = serde_json::to_string(&now).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), now);
}
