//! Kernel surface: system calls that ordinary programs do not need are refused.

use cellblock::{report::Status, seccomp::Filter};

use super::*;
use crate::common::{builder, sh};

const ENOSYS: &str = "ENOSYS";
const EPERM: &str = "EPERM";
const NO_FAMILY: &str = "EAFNOSUPPORT";

/// Refused system calls, and their errno.
const REFUSED: &[(&str, &str)] = &[
    ("user namespace", EPERM),
    ("mount namespace", EPERM),
    ("network namespace", EPERM),
    ("time namespace", EPERM),
    ("add_key", EPERM),
    ("request_key", EPERM),
    ("keyctl", EPERM),
    ("io_uring_setup", ENOSYS),
    ("io_uring_register", ENOSYS),
    ("bpf", EPERM),
    ("perf_event_open", EPERM),
    ("userfaultfd", EPERM),
    ("fanotify_init", EPERM),
    ("kcmp", EPERM),
    ("process_vm_readv", ENOSYS),
    ("process_vm_writev", ENOSYS),
    ("open_by_handle_at", EPERM),
    ("personality", EPERM),
    ("syslog", EPERM),
    ("quotactl", EPERM),
    ("acct", EPERM),
    ("swapoff", EPERM),
    ("reboot", EPERM),
    ("kexec_load", EPERM),
    ("delete_module", EPERM),
    ("mount", EPERM),
    ("umount2", EPERM),
    ("chroot", EPERM),
    ("pivot_root", EPERM),
    ("fsopen", EPERM),
    ("open_tree", EPERM),
    ("move_mount", EPERM),
    ("mount_setattr", EPERM),
    ("sethostname", EPERM),
    ("setdomainname", EPERM),
    ("settimeofday", EPERM),
    ("mknodat", EPERM),
    ("huge pages", "ENOMEM"),
    ("huge pages of a file", "ENOMEM"),
    ("huge pages of a segment", "ENOMEM"),
    ("dropping a file from memory", EPERM),
    ("core scheduling", EPERM),
    ("sync", EPERM),
    ("syncfs", EPERM),
    ("lease", EPERM),
    ("AF_ALG", NO_FAMILY),
    ("AF_VSOCK", NO_FAMILY),
    ("AF_PACKET", NO_FAMILY),
    ("AF_RXRPC", NO_FAMILY),
    ("AF_TIPC", NO_FAMILY),
    ("AF_KEY", NO_FAMILY),
    ("AF_BLUETOOTH", NO_FAMILY),
    ("AF_XDP", NO_FAMILY),
    ("AF_CAN", NO_FAMILY),
    ("netfilter", NO_FAMILY),
    ("audit", NO_FAMILY),
    ("sock_diag", NO_FAMILY),
    ("routes", NO_FAMILY),
    ("SOCK_PACKET", "EPROTONOSUPPORT"),
    ("SCTP", "EPROTONOSUPPORT"),
    ("raw", EPERM),
    ("TIOCSTI", EPERM),
    ("TIOCSTI with high bits", EPERM),
    ("TIOCLINUX with high bits", EPERM),
    ("a call that is newer than the filter", ENOSYS),
    ("/proc/sys/kernel/hostname", "ENOENT"),
    ("/proc/sysrq-trigger", "ENOENT"),
    ("/proc/sys/kernel/core_pattern", "ENOENT"),
    ("/sys/kernel/uevent_helper", "ENOENT"),
    ("/sys/fs/cgroup/cgroup.procs", "ENOENT"),
    ("/dev/mem", "ENOENT"),
];

#[tokio::test]
async fn calls_that_no_ordinary_program_needs_are_refused() {
    let container = container().await;
    let said = outcomes(&says(&container, &calls().command(&["all"])).await);
    for (what, answer) in REFUSED {
        assert_eq!(said.get(*what).map(String::as_str), Some(*answer), "{what}");
    }
    assert_well(&container).await;
    // The control: a program without a filter.
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    let unfiltered = outcomes(&says(&unfiltered, &calls().command(&["all"])).await);
    for what in [
        "add_key",
        "keyctl",
        "kcmp",
        "process_vm_readv",
        "personality",
        "routes",
        "huge pages of a file",
        "dropping a file from memory",
        "sync",
        "lease",
    ] {
        match unfiltered[what].as_str() {
            "works" => {}
            // Without a filter this answer is the kernel's.
            ENOSYS | "EINVAL" => lacks(what),
            other => panic!("without a filter there is {what}: {other}"),
        }
    }
    for what in ["user namespace", "mount", "chroot", "fsopen", "sethostname", "mknodat", "AF_PACKET", "/dev/mem"] {
        assert_ne!(unfiltered[what], "works", "{what}");
    }
}

#[tokio::test]
async fn the_kernel_refuses_user_namespaces_without_the_filter_too() {
    let container = builder().filter(Filter::Off).build().await.unwrap();
    let said = outcomes(&says(&container, &calls().command(&["all"])).await);
    assert_eq!((&*said["user namespace"], &*said["clone3"]), ("ENOSPC", "ENOSPC"));
    let control = on_host(calls(), &["namespaces"]);
    assert_eq!(
        (&*control["user namespace"], &*control["clone3"]),
        ("works", "works"),
        "the control: the host may make them"
    );
}

#[tokio::test]
async fn numbers_of_other_architectures_do_not_bypass_the_filter() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let container = container().await;
    let said = outcomes(&says(&container, &calls().command(&["foreign"])).await);
    // Few kernels support x32, so there is no control.
    assert_eq!(said["x32"], ENOSYS);
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    let control = unfiltered.output(&calls().command(&["foreign"])).await.unwrap();
    let control = outcomes(&String::from_utf8(control.stdout).unwrap());
    if control.get("int 0x80").is_some_and(|it| it == "works") {
        assert_eq!(said["int 0x80"], ENOSYS);
    } else {
        lacks(&format!("32-bit system calls by int 0x80: {control:?}"));
    }
    let killing = builder().filter(Filter::DenylistKill).build().await.unwrap();
    let report = killing.run(&calls().command(&["foreign"])).await.unwrap();
    assert_eq!(report.status, Status::Signaled { signal: libc::SIGSYS, core_dumped: false });
}

#[tokio::test]
async fn a_program_does_not_see_the_names_of_control_groups() {
    let said = says(&container().await, &sh("cat /proc/self/cgroup")).await;
    assert!(!said.is_empty() && said.lines().all(|line| line.ends_with(":/")), "{said}");
}

#[tokio::test]
async fn calls_that_programs_need_work() {
    let container = container().await;
    let script = "import threading, subprocess, socket, os, select, multiprocessing, tempfile, inspect
t = threading.Thread(target=lambda: None); t.start(); t.join()
print(subprocess.run(['/bin/echo', 'hi'], capture_output=True).stdout)
a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))
r, w = os.pipe(); p = select.epoll(); p.register(r); os.eventfd(0); os.memfd_create('m')
print(os.fork() == 0 and os._exit(0) or os.wait()[1])";
    assert_eq!(says(&container, &python(script)).await, "b'hi\\n'\nb'x'\n0");
    assert_eq!(says(&container, &sh("echo a | cat | (read x; echo $x)")).await, "a");
}
