//! The privileges, signals and session of a program.

use std::time::Duration;

use cellblock::Container;

use crate::common::{container, is_root, python, says, sh};

#[tokio::test]
async fn a_program_has_no_privileges() {
    let container = container().await;
    let status = says(&container, &sh("grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status")).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    if is_root() {
        assert!(status.contains("Uid:\t1000\t1000\t1000\t1000"), "{status}");
        assert!(status.contains("Gid:\t1000\t1000\t1000\t1000"), "{status}");
        assert!(status.contains("Groups:\t \n"), "{status}");
    }
    for attempt in ["mount -t tmpfs none /tmp", "chroot / true", "hostname x", "chown 1 /w || chown 0:5 /w"] {
        let output = container.output(sh(attempt).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")).await.unwrap();
        assert!(!output.report.status.success(), "{attempt}");
    }
}

#[tokio::test]
async fn a_program_starts_with_default_signals_in_its_own_session() {
    let container = container().await;
    let status = says(&container, &sh("grep -E '^Sig(Blk|Ign|Cgt|Pnd)' /proc/self/status")).await;
    for set in ["SigBlk", "SigIgn", "SigPnd"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    let ids = python("import os; print(os.getpid() == os.getsid(0) == os.getpgrp(), os.getppid())");
    assert_eq!(says(&container, &ids).await, "True 1");
    let mask =
        python("import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGCHLD))");
    assert_eq!(says(&container, &mask).await, "set() 0");
}

#[tokio::test]
async fn a_program_cannot_signal_or_trace_the_init() {
    let container: Container = container().await;
    let attack = python(
        "import os, signal, ctypes
for s in range(1, 65):
    try: os.kill(1, s)
    except PermissionError: pass
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0), ctypes.get_errno() in (1, 3))
def denied(f):
    try: f()
    except OSError: return True
print(all(denied(f) for f in [
    lambda: open('/proc/1/mem'), lambda: open('/proc/1/environ').read(), lambda: os.readlink('/proc/1/exe'),
    lambda: os.open('/proc/1/exe', os.O_PATH), lambda: os.listdir('/proc/1/root'), lambda: os.listdir('/proc/1/fd')]))
me = os.getpid()
print(denied(lambda: os.readlink('/proc/self/exe')), denied(lambda: open('/proc/self/environ').read()))",
    );
    assert_eq!(says(&container, &attack).await, "-1 True\nTrue\nNone None");
    container.ping(Duration::from_secs(1)).await.unwrap();
}
