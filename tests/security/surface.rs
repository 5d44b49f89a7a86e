//! Kernel surface: system calls that ordinary programs do not need are refused.

use cellblock::{Mount, Stdio, report::Status, seccomp::Filter};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;
use crate::common::{builder, sh};

const ENOSYS: &str = "ENOSYS";
const EPERM: &str = "EPERM";
const EINVAL: &str = "EINVAL";
const NO_FAMILY: &str = "EAFNOSUPPORT";
const NO_ATTRIBUTE: &str = "EOPNOTSUPP";
const NO_OPTION: &str = "ENOPROTOOPT";

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
    ("access control list", NO_ATTRIBUTE),
    ("attribute", NO_ATTRIBUTE),
    ("attribute by a link", NO_ATTRIBUTE),
    ("attribute by a descriptor", NO_ATTRIBUTE),
    ("attribute by a directory", NO_ATTRIBUTE),
    ("removal of an attribute", NO_ATTRIBUTE),
    ("flags of a file", "ENOTTY"),
    ("hint at a file's lifetime", EINVAL),
    ("notes of a directory", EINVAL),
    ("O_DIRECT", EINVAL),
    ("O_DIRECT later", EINVAL),
    ("packets", EINVAL),
    ("packets later", EINVAL),
    ("read around the cache", NO_ATTRIBUTE),
    ("io_setup", ENOSYS),
    ("io_destroy", ENOSYS),
    ("fsync", "works"),
    ("fdatasync", "works"),
    ("sync_file_range", "works"),
    ("msync", "works"),
    ("merging of pages", EINVAL),
    ("merging of a page", EINVAL),
    ("paging out", EINVAL),
    ("cold pages", EINVAL),
    ("extents of a file", "ENOTTY"),
    ("SO_ATTACH_FILTER", NO_OPTION),
    ("SO_TIMESTAMP", NO_OPTION),
    ("SO_ZEROCOPY", NO_OPTION),
    ("TCP_MD5SIG", NO_OPTION),
    ("TCP_CONGESTION", NO_OPTION),
    ("TCP_ULP", NO_OPTION),
    ("UDP_GRO", NO_OPTION),
    ("a multicast group", NO_OPTION),
    ("SIOCGSTAMP", "ENOTTY"),
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
        "access control list",
        "attribute",
        "attribute by a link",
        "attribute by a descriptor",
        "attribute by a directory",
        "flags of a file",
        "hint at a file's lifetime",
        "notes of a directory",
        "packets",
        "packets later",
        "paging out",
        "cold pages",
        "extents of a file",
        "io_setup",
        "SO_ATTACH_FILTER",
        "SO_TIMESTAMP",
        "SO_ZEROCOPY",
        "TCP_CONGESTION",
        "UDP_GRO",
    ] {
        match unfiltered[what].as_str() {
            "works" => {}
            // Without a filter this answer is the kernel's.
            ENOSYS | EINVAL | NO_ATTRIBUTE | NO_OPTION | "ENOTTY" => lacks(what),
            other => panic!("without a filter there is {what}: {other}"),
        }
    }
    for (what, answer) in [
        ("fsync", "EBADF"),
        ("fdatasync", "EBADF"),
        ("sync_file_range", "EBADF"),
        ("msync", "ENOMEM"),
        ("SIOCGSTAMP", "ENOENT"),
    ] {
        assert_eq!(unfiltered[what], answer, "the control: {what}");
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

/// The kernel makes such a program wait for the journal of the host's file system.
#[tokio::test]
async fn a_program_writes_files_back_only_where_it_may_write_to_the_host() {
    let write_back = python(
        "import mmap, os
def attempt(call):
    try: call(); return 'works'
    except OSError as error: return os.strerror(error.errno)
f = os.open('f', os.O_CREAT | os.O_RDWR); os.write(f, b'x' * 4096)
map = mmap.mmap(f, 4096)
for call in (os.fsync, os.fdatasync): print(attempt(lambda: call(f)), attempt(lambda: call(1000)), sep=', ')
print(attempt(map.flush))",
    );
    let container = container().await;
    assert_eq!(says(&container, &write_back).await, "works, works\nworks, works\nworks");
    let shared = common::open_dir();
    std::fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let writing = builder().mount(Mount::bind_writable(shared.path(), "/shared")).work_dir("/shared");
    let said = says(&writing.build().await.unwrap(), &write_back).await;
    assert_eq!(said, "works, Bad file descriptor\nworks, Bad file descriptor\nworks", "the control");
}

/// Pages that are dropped must be read from the disk again, by all who use the file.
#[tokio::test]
async fn a_program_cannot_drop_a_shared_file_from_memory() {
    let drop_it = python(
        "import ctypes, os
libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p
size = 1 << 20
at = libc.mmap(None, size, 1, 2, os.open('/shared/file', os.O_RDONLY), 0)
ctypes.string_at(at, size)
def pages():
    found = ctypes.create_string_buffer(size // 4096)
    libc.mincore(ctypes.c_void_p(at), size, found)
    return sum(byte & 1 for byte in found.raw)
before = pages()
for advice in (20, 21): libc.madvise(ctypes.c_void_p(at), size, advice)
print(before, pages())",
    );
    let shared = common::open_dir();
    let path = shared.path().join("file");
    let file = File::create(&path).unwrap();
    // A hole has no pages to write to the disk, so all that are in memory can be dropped.
    file.set_len(1 << 20).unwrap();
    // A program with another id may do so if the file's mode lets it write, also on a read-only
    // mount.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let builder = builder().mount(Mount::bind(shared.path(), "/shared"));
    assert_eq!(says(&builder.clone().build().await.unwrap(), &drop_it).await, "256 256");
    let said = says(&builder.filter(Filter::Off).build().await.unwrap(), &drop_it).await;
    if said == "256 256" {
        return lacks("a disk for temporary files");
    }
    assert!(said.starts_with("256 "), "the control: {said}");
}

/// What an open or a read in a directory tells a program that asked for notes of it (dnotify).
#[tokio::test]
async fn a_program_is_not_told_what_other_containers_do_in_a_shared_directory() {
    let listen = "import fcntl, os, signal, sys
heard = 0
def hear(*_):
    global heard
    heard += 1
signal.signal(signal.SIGIO, hear)
try: fcntl.fcntl(os.open('/etc', os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT)
except OSError as error: print(os.strerror(error.errno), flush=True)
else: print('listens', flush=True)
sys.stdin.read()
print(heard)";
    let shared = common::open_dir();
    std::fs::write(shared.path().join("file"), "content").unwrap();
    for (filter, answer) in [(Filter::Denylist, "Invalid argument"), (Filter::Off, "listens")] {
        let builder = builder().mount(Mount::bind(shared.path(), "/shared")).filter(filter);
        let (one, other) = (builder.clone().build().await.unwrap(), builder.build().await.unwrap());
        let mut listener = python(&listen.replace("/etc", "/shared"));
        let mut process = one.spawn(listener.stdin(Stdio::piped()).stdout(Stdio::piped())).await.unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        match said.next_line().await.unwrap().unwrap() {
            no_dnotify if filter == Filter::Off && no_dnotify == "Invalid argument" => return lacks("dnotify"),
            said => assert_eq!(said, answer, "{filter:?}"),
        }
        for _ in 0..20 {
            says(&other, &sh("cat /shared/file")).await;
        }
        drop(process.stdin.take());
        let heard: u32 = said.next_line().await.unwrap().unwrap().parse().unwrap();
        assert_eq!(heard > 0, filter == Filter::Off, "{filter:?}: {heard}");
        process.wait().await.unwrap();
    }
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
    let script = "import asyncio, multiprocessing, shutil, socket, sqlite3
base = sqlite3.connect('base'); base.execute('PRAGMA journal_mode = WAL'); base.execute('CREATE TABLE t (n)')
with base: base.executemany('INSERT INTO t VALUES (?)', [(1,), (2,)])
print(sqlite3.connect('base').execute('SELECT sum(n) FROM t').fetchone())
shutil.copytree('/etc/ld.so.conf.d', 'copy'); shutil.copy2('base', 'copied')
one, other = multiprocessing.Pipe()
child = multiprocessing.Process(target=lambda: other.send('forked')); child.start(); print(one.recv()); child.join()
async def serve(): await (await asyncio.create_subprocess_exec('/bin/true')).wait(); return 'served'
print(asyncio.run(serve()))
tcp = socket.socket(); tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)";
    assert_eq!(says(&container, &python(script)).await, "(3,)\nforked\nserved");
    let script = "mkdir one two; echo > one/file; cp -a one same; tar cf - one same | (cd two; tar xpf -)
sync one/file; dd if=/dev/zero of=zeroes count=1 conv=fsync status=none; mv two /tmp/three; ls /tmp/three";
    assert_eq!(says(&container, &sh(script)).await, "one\nsame");
}
