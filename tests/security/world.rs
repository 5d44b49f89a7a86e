//! What the default world tells of the host and of other containers.

use std::collections::BTreeSet;

use cellblock::Mount;

use super::*;
use crate::common::{builder, sh};

/// The names in a container's proc beside the processes, and the files below its `sys`.
const PROC: [&str; 9] = ["cpuinfo", "loadavg", "meminfo", "mounts", "net", "stat", "sys", "uptime", "version"];
const SYS: [&str; 4] = [
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/ostype",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/random/uuid",
];

/// Prints which of the paths in its input exist. Each is looked up in several ways.
const LOOK: &str = "import os, sys
for path in sys.stdin.read().split('\\n'):
    found = os.path.lexists(path)
    for flags in os.O_RDONLY | os.O_NONBLOCK, os.O_PATH:
        try: os.close(os.open(path, flags)); found = True
        except (FileNotFoundError, NotADirectoryError, PermissionError): pass
        except OSError: found = True
    if found: print(path)";

/// All paths below the host's `/proc`, except those of processes.
fn host_paths() -> Vec<String> {
    let find =
        "find /proc -mindepth 1 \\( -regex '/proc/[0-9]+' -o -name self -o -name thread-self \\) -prune -o -print";
    let found = HostCommand::new("sh").args(["-c", find]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

async fn existing(container: &Container, paths: &[String], below: &str) -> BTreeSet<String> {
    let paths = paths.iter().map(|path| path.replacen("/proc", below, 1)).collect::<Vec<_>>().join("\n");
    let said = says(container, python(LOOK).stdin(cellblock::Stdio::bytes(paths))).await;
    said.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn proc_has_no_other_names_than_those_it_is_meant_to_have() {
    let paths = host_paths();
    assert!(paths.len() > 500, "{}", paths.len());
    let container = container().await;
    let dirs = ["", "/kernel", "/kernel/random"].map(|dir| format!("/proc/sys{dir}"));
    let mut expected: BTreeSet<_> = PROC.iter().map(|name| format!("/proc/{name}")).chain(dirs).collect();
    expected.extend(SYS.map(str::to_owned));
    // Links into the program's own process, whose network is the container's.
    let is_in_own_net = |path: &String| path.starts_with("/proc/net/");
    for _ in 0..2 {
        let mut found = existing(&container, &paths, "/proc").await;
        found.retain(|path| !is_in_own_net(path));
        assert_eq!(found, expected.iter().filter(|&path| paths.contains(path)).cloned().collect());
        let listed = says(&container, &sh("find /proc/sys -type f | sort")).await;
        assert_eq!(listed, SYS.join("\n"));
        container.reset().await.unwrap();
    }
    // The control: a whole proc shows them all.
    let whole = builder().mount(Mount::file_system("proc", "/whole", [("hidepid", "0")])).build().await.unwrap();
    assert!(existing(&whole, &paths, "/whole").await.len() > 500);
    assert!(says(&whole, &sh("cat /whole/cmdline /whole/meminfo")).await.contains("MemTotal"));
}

/// What only this machine has: the values of its files, by a word that says which.
fn marks() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |path: &str, key: &str| {
        let text = read(path);
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| line[key.len()..].split_whitespace().next().map(str::to_owned)).unwrap_or_default()
    };
    let mut marks = vec![
        ("host name", nix::unistd::gethostname().unwrap().to_str().unwrap().to_owned()),
        ("memory", value("/proc/meminfo", "MemTotal:")),
        ("free memory", value("/proc/meminfo", "MemFree:")),
        ("time of boot", value("/proc/stat", "btime")),
        ("command line", read("/proc/cmdline").trim().to_owned()),
        ("uptime", read("/proc/uptime").split('.').next().unwrap_or_default().to_owned()),
        ("boot", read("/proc/sys/kernel/random/boot_id").trim().to_owned()),
        ("model", read("/proc/cpuinfo").lines().find(|it| it.starts_with("model name")).unwrap_or_default().to_owned()),
    ];
    let users = read("/etc/passwd");
    let ordinary = ["root", "nobody"];
    marks.extend(
        users
            .lines()
            .filter_map(|line| line.split(':').next())
            .filter(|it| !ordinary.contains(it))
            .map(|user| ("user", format!("{user}:"))),
    );
    // A mark that is empty, or as short as any number, tells nothing.
    marks.retain(|(_, mark)| mark.len() > 3);
    assert!(marks.len() > 8, "{marks:?}");
    marks
}

#[tokio::test]
async fn generated_files_say_nothing_of_the_host() {
    let everything = format!(
        "cat /etc/passwd /etc/group /etc/hosts /etc/nsswitch.conf /etc/resolv.conf {} $(ls {} | grep -v uuid)",
        "/proc/cpuinfo /proc/loadavg /proc/meminfo /proc/stat /proc/uptime /proc/version",
        SYS.join(" "),
    );
    let one = container().await;
    let said = says(&one, &sh(&everything)).await;
    for (what, mark) in marks() {
        assert!(!said.contains(&mark), "{what}: {mark}");
    }
    // Neither do they tell what happens elsewhere, or when a container was made.
    let busy = container().await;
    let load = python("x = bytearray(100 << 20)\nfor i in range(2000000): pass");
    says(&busy, &load).await;
    assert_eq!(says(&container().await, &sh(&everything)).await, said);
    assert_eq!(says(&one, &sh(&everything)).await, said);
    // The control: the same marks are in the files of the host.
    let host = "cat /etc/passwd /proc/cpuinfo /proc/meminfo /proc/stat /proc/cmdline /proc/sys/kernel/random/boot_id";
    let host =
        String::from_utf8_lossy(&HostCommand::new("sh").args(["-c", host]).output().unwrap().stdout).into_owned();
    let found = marks().into_iter().filter(|(_, mark)| host.contains(mark)).count();
    assert!(found > 5, "the control: {found}");
}

/// Has the kernel refuse to reconfigure file systems, and executes its arguments.
const REFUSE: &str = r#"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **words) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fsconfig, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 22),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {6, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) || execv(words[1], words + 1);
}"#;

/// What a program reads and finds in `/proc`.
pub(super) async fn read_proc() -> String {
    let container = container().await;
    let read = sh(
        "head -1 /proc/meminfo 2>&1; cat /proc/cmdline 2>/dev/null; cat /proc/self/comm; ls /proc | grep -v '[0-9]'",
    );
    let said = says(&container, &read).await;
    container.destroy().await;
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_proc_that_the_kernel_does_not_restrict_is_covered() {
    let refuse = Built::new(REFUSE);
    let read = |through: &[&str]| {
        let output = common::another_host("read proc", through).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().find_map(|line| line.strip_prefix("proc ").map(str::to_owned)).expect(&said)
    };
    assert_eq!(read(&[]), "MemTotal: 4194304 kB cat self thread-self", "the control");
    let said = read(&[refuse.path.to_str().unwrap()]);
    assert_eq!(said, "head: cannot open '/proc/meminfo' for reading: No such file or directory cat self thread-self");
}

#[tokio::test]
async fn generated_files_cannot_be_changed_or_uncovered() {
    let container = container().await;
    let attack = python(
        "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, call):
    try: result = call()
    except OSError: result = -1
    if result is None or result >= 0: print(name)
for path in ('/proc/meminfo', '/proc/stat', '/proc/sys/kernel/osrelease', '/proc/sys/kernel/random/uuid', '/etc/passwd', '/etc/hosts'):
    attempt('write ' + path, lambda: os.open(path, os.O_WRONLY))
    attempt('mode ' + path, lambda: os.chmod(path, 0o777))
    attempt('remove ' + path, lambda: os.remove(path))
    attempt('rename ' + path, lambda: os.rename(path, path + '.x'))
    attempt('times ' + path, lambda: os.utime(path))
    attempt('unmount ' + path, lambda: libc.umount2(path.encode(), 2))
for path in ('/proc', '/proc/sys'):
    attempt('unmount ' + path, lambda: libc.umount2(path.encode(), 2))
    attempt('make ' + path, lambda: os.mkdir(path + '/new'))",
    );
    let unfiltered = builder().filter(cellblock::seccomp::Filter::Off).build().await.unwrap();
    for container in [container, unfiltered] {
        assert_eq!(says(&container, &attack).await, "");
        assert_eq!(says(&container, &sh("head -1 /proc/meminfo | tr -s ' '")).await, "MemTotal: 4194304 kB");
    }
}

#[tokio::test]
async fn no_private_key_of_the_host_is_in_the_world() {
    let container = container().await;
    let keys =
        "ls -d /etc/ssl/private /etc/shadow /etc/ssh /root 2>/dev/null; grep -rl 'PRIVATE KEY' /etc 2>/dev/null; :";
    assert_eq!(says(&container, &sh(keys)).await, "");
    // A directory of certificates may have the host's own, with its name.
    assert_eq!(says(&container, &sh("ls /etc/ssl/certs | grep -v -x ca-certificates.crt || :")).await, "");
}
