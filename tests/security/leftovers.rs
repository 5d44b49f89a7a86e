//! Leftovers: a reset removes what a run made, changed or filled.
//!
//! Each test makes a mess, checks that the next run sees it (the control), and checks that after a
//! reset the fingerprint is the first one again.

use std::time::Instant;

use cellblock::{Mount, Output, Stdio, mount::Tmpfs, seccomp::Filter};

use super::*;
use crate::common::{builder, lacks, sh};

/// Makes a mess, asserts that the next program sees it, and asserts that a reset removes it.
async fn assert_cleaned(container: &Container, what: &str, mess: &Command) {
    let fresh = fingerprint(container).await;
    let Output { report, stderr, .. } = container.output(mess).await.unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    if stderr.contains("Operation not supported") {
        return lacks(&format!("a tmpfs in which this works: {what:?}"));
    }
    assert!(report.status.success() && stderr.is_empty(), "{what}: {}: {stderr}", report.status);
    assert_ne!(differences(&fresh, &fingerprint(container).await), [""; 0], "{what}: the control");
    let start = Instant::now();
    container.reset().await.unwrap();
    assert_well(container).await;
    assert!(start.elapsed() < 5 * SECOND, "{what} took {:?}", start.elapsed());
    assert_eq!(differences(&fresh, &fingerprint(container).await), [""; 0], "{what}");
}

/// A container whose tmpfs are small enough to fill.
async fn small() -> Container {
    let tmpfs = Tmpfs::new().bytes(16 << 20).inodes(20_000);
    builder().mounts(Mount::defaults(tmpfs)).build().await.unwrap()
}

#[tokio::test]
async fn a_reset_removes_files_of_every_kind_and_name() {
    let container = small().await;
    for mess in [
        "touch /tmp/f; mkdir -p a/b; ln -s / l; mkfifo p",
        "printf x > \"$(printf 'new\\nline')\"; printf x > \"$(printf '\\377\\376')\"; printf x > -rf",
        "mkdir -m 0 closed; touch closed2; chmod 0 closed2",
        "chmod 0 /w /tmp",
        "chmod 7777 /w /tmp; chmod +t /w",
        "yes | head -c 100000000 > full 2>/dev/null; :",
    ] {
        assert_cleaned(&container, mess, &sh(mess)).await;
    }
    let python_messes = [
        "import os\nfor i in range(10000): os.mkdir('d'); os.chdir('d')",
        "import os\ntry:\n  for i in range(10**6): os.mknod(f'/w/{i}')\nexcept OSError: pass",
        "import os\ntry:\n  os.mknod('f')\n  for i in range(10**6): os.link('f', f'l{i:0255d}')\nexcept OSError: pass",
        "import socket\nsocket.socket(socket.AF_UNIX).bind('socket')",
        "import os\nf = os.open('f', os.O_CREAT | os.O_RDWR); os.truncate(f, 7 << 60); os.pwrite(f, b'x', 6 << 60)",
    ];
    for mess in python_messes {
        assert_cleaned(&container, mess, &python(mess)).await;
    }
}

#[tokio::test]
async fn a_reset_removes_attributes_and_access_control_lists() {
    // The filter refuses these, so it is off here.
    let container = builder().filter(Filter::Off).build().await.unwrap();
    let python_messes = [
        "import os\nos.setxattr('/w', 'user.left', b'x' * 1000)",
        "import os, struct\nacl = struct.pack('<I' + 'HHI' * 4, 2, 1, 7, 2**32 - 1, 4, 7, 2**32 - 1, 16, 7, 2**32 - 1, 32, 7, 2**32 - 1)
os.setxattr('/w', 'system.posix_acl_default', acl)",
    ];
    for mess in python_messes {
        assert_cleaned(&container, mess, &python(mess)).await;
        assert!(!builder().build().await.unwrap().run(&python(mess)).await.unwrap().status.success(), "{mess}");
    }
}

#[tokio::test]
async fn a_reset_restores_renamed_and_removed_directories() {
    let container = builder().work_dir("/w/deep/er").build().await.unwrap();
    let fresh = fingerprint(&container).await;
    for mess in [
        "cd /w; mv deep gone",
        "cd /w; mv deep gone; ln -s /usr deep",
        "cd /w; rm -r deep; touch deep",
        "cd /w; rm -r deep; mkfifo deep",
        "chmod 0 /w/deep",
    ] {
        says(&container, &sh(mess)).await;
        container.reset().await.unwrap();
        assert_eq!(differences(&fresh, &fingerprint(&container).await), [""; 0], "{mess}");
    }
    // Mount points and read-only directories cannot be changed.
    for attempt in ["mv /w /x", "rmdir /w", "mkdir /x", "ln -s /w /x", "chmod 777 /", "umount /w"] {
        assert!(!container.run(&sh(attempt)).await.unwrap().status.success(), "{attempt}");
    }
    assert_eq!(differences(&fresh, &fingerprint(&container).await), [""; 0]);
}

#[tokio::test]
async fn objects_of_a_process_are_gone_without_a_reset() {
    let container = container().await;
    let fresh = fingerprint(&container).await;
    let hold = "import ctypes, fcntl, os, resource, select, socket, signal
libc = ctypes.CDLL(None)
names = socket.socket(socket.AF_UNIX); names.bind(b'\\0left'); names.listen()
a, b = socket.socketpair()
memfd = os.memfd_create('left'); os.write(memfd, b'x' * 1000000)
# A message with a descriptor and the socket itself, in the queue of that socket.
socket.send_fds(a, [b'x'], [memfd, a.fileno(), b.fileno()])
a.detach(); b.detach()
fcntl.flock(os.open('/usr', os.O_RDONLY), fcntl.LOCK_EX)
signal.setitimer(signal.ITIMER_REAL, 100)
select.epoll().register(names)
libc.mlock(ctypes.create_string_buffer(4096), 4096)
names.detach()
print(open('/proc/self/fdinfo/%d' % memfd).read() != '', flush=True)";
    for _ in 0..3 {
        assert_eq!(says(&container, &python(hold)).await, "True");
        assert_eq!(differences(&fresh, &fingerprint(&container).await), [""; 0]);
        let lock = python("import fcntl, os; fcntl.flock(os.open('/usr', os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)");
        says(&container, &lock).await;
    }
    let during = format!("{hold}\n{}", include_str!("fingerprint.py"));
    let changed = differences(&fresh, &says(&container, &python(&during)).await);
    assert!(changed.iter().any(|line| line.starts_with("abstract name Address already in use")), "{changed:#?}");
}

/// Changes whatever a program can change about its input, which is /dev/null, and locks bytes that
/// spell a word.
const MARK: &str = "import fcntl, os, struct
fcntl.fcntl(0, fcntl.F_SETFL, os.O_APPEND | os.O_NONBLOCK)
fcntl.fcntl(0, 10, 40) # F_SETSIG
OFD_SETLK = 37
fcntl.fcntl(0, OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0x6c656674, 1, 0))
try: fcntl.flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: pass
def refused(change):
    try: change(); return False
    except OSError: return True
print(all(map(refused, [lambda: os.utime(0), lambda: os.utime('/dev/null'), lambda: os.utime(0, (1, 1)), lambda: os.fchmod(0, 0o666),
                        lambda: os.setxattr(0, 'user.left', b'x'), lambda: os.fchown(0, os.getuid(), -1)])))";

/// Prints what of that a program finds, and the times of the device.
const READ_MARK: &str = "import fcntl, os, struct
OFD_GETLK = 36
lock = fcntl.fcntl(os.open('/dev/null', os.O_RDWR), OFD_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0x6c656674, 1, 0))
it = os.fstat(0)
print(fcntl.fcntl(0, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK), fcntl.fcntl(0, 11),
      struct.unpack('hhqqi4x', lock)[0] != fcntl.F_UNLCK, it.st_mtime_ns, it.st_atime_ns, it.st_ctime_ns)";

#[tokio::test]
async fn nothing_is_left_in_the_null_device() {
    let container = container().await;
    let fresh = says(&container, &python(READ_MARK)).await;
    assert!(fresh.starts_with("0 0 False"), "{fresh}");
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    for streams in [0, 1, 2] {
        let mut mark = python(MARK);
        if streams > 0 {
            mark.stdout(Stdio::piped());
        }
        if streams > 1 {
            mark.stderr(null());
        }
        assert_eq!(says(&container, &mark).await, "True", "the device itself cannot be changed");
        assert_eq!(says(&container, &python(READ_MARK)).await, fresh, "without a reset");
        container.reset().await.unwrap();
        assert_eq!(says(&container, &python(READ_MARK)).await, fresh);
    }
    // All three streams of a program are the device.
    let report =
        container.run(&python("import os\nassert {os.fstat(fd).st_rdev for fd in (0, 1, 2)} == {0x103}")).await;
    assert!(report.unwrap().status.success());

    // The control: one descriptor for several runs.
    let (mut mark, mut read) = (python(MARK), python(READ_MARK));
    let shared = null();
    mark.stdin(shared.try_clone().unwrap());
    read.stdin(shared);
    container.output(&mark).await.unwrap();
    let left = says(&container, &read).await;
    assert!(left.starts_with("3072 40 True"), "the control: {left}");
}

/// Files without a name change nothing of a tmpfs but the number of its next inode.
#[tokio::test]
async fn a_reset_restarts_the_inode_numbers_of_a_tmpfs() {
    let container = container().await;
    let count = |files: u32| {
        python(&format!(
            "import os
for _ in range({files}): os.close(os.open('/tmp', os.O_TMPFILE | os.O_RDWR))
print(os.fstat(os.open('/tmp', os.O_TMPFILE | os.O_RDWR)).st_ino)"
        ))
    };
    let first: u64 = says(&container, &count(0)).await.parse().unwrap();
    for files in [1, 77, 1000] {
        let moved: u64 = says(&container, &count(files)).await.parse().unwrap();
        assert!(moved >= first + u64::from(files), "the control: {moved} {first}");
        container.reset().await.unwrap();
        let again: u64 = says(&container, &count(0)).await.parse().unwrap();
        assert_eq!(again, first, "{files}");
        container.reset().await.unwrap();
    }
    // A tmpfs without room for more inodes has none to spare for the question.
    let one = builder().mount(Mount::tmpfs("/one", Tmpfs::new().inodes(1))).build().await.unwrap();
    one.reset().await.unwrap();
    assert_well(&one).await;
}

/// IPC objects, which outlive the process that makes them.
const OBJECTS: [(&str, &str); 3] = [
    ("shared memory", "libc.shmget(0x1ef7, 100000, 0o1666)"),
    ("semaphores", "libc.semget(0x1ef7, 3, 0o1666)"),
    ("messages", "libc.msgsnd(libc.msgget(0x1ef7, 0o1666), b'12345678text', 4, 0)"),
];

fn make(object: &str) -> Command {
    python(&format!("import ctypes, os\nlibc = ctypes.CDLL(None)\nif {object} < 0: raise SystemExit(1)"))
}

#[tokio::test]
async fn a_reset_removes_kernel_objects() {
    let container = container().await;
    for (what, object) in OBJECTS {
        assert_cleaned(&container, what, &make(object)).await;
    }
}

#[tokio::test]
async fn a_reset_removes_keys_of_the_session() {
    // The filter refuses keys, so it is off here.
    let container = builder().filter(Filter::Off).build().await.unwrap();
    let add = |ring| {
        let number = if cfg!(target_arch = "x86_64") { 248 } else { 217 };
        make(&format!("libc.syscall({number}, b'user', b'left', b'x', 1, {ring})"))
    };
    assert_cleaned(&container, "a key of the session", &add(-3)).await;
    // Keys of the user stay. That is why a pool does not lease such a container again.
    let fresh = fingerprint(&container).await;
    says(&container, &add(-4)).await;
    container.reset().await.unwrap();
    assert_ne!(differences(&fresh, &fingerprint(&container).await), [""; 0], "the weaker mode");
    assert!(!builder().build().await.unwrap().run(&add(-4)).await.unwrap().status.success(), "the filter refuses it");
}

/// The machine has 4096 flow labels, and keeps each for as long as its maker requests.
#[tokio::test]
async fn a_program_gets_no_flow_label() {
    let label = "import socket, struct, sys
try: s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
except OSError as error: print(error.strerror); sys.exit()
request = struct.pack('=16s4sBBHHHI', bytes([0xfd] + [0] * 14 + [1]), bytes([0, 1, 0x11, 0x11]), 0, 255, 1, 6, 6, 0)
try: s.setsockopt(41, 32, request); print('works')
except OSError as error: print(error.strerror)";
    let container = container().await;
    match &*says(&container, &python(label)).await {
        "Address family not supported by protocol" => return lacks("IPv6"),
        said => assert_eq!(said, "Protocol not available"),
    }
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    assert_eq!(says(&unfiltered, &python(label)).await, "works", "the control");
    unfiltered.reset().await.unwrap();
    let left = says(&unfiltered, &python("print(open('/proc/self/net/ip6_flowlabel').read())")).await;
    assert!(left.contains("11111"), "the control: a reset does not remove it: {left}");
}

#[tokio::test]
async fn containers_do_not_share_kernel_objects() {
    let (one, other) = (container().await, container().await);
    let (before, fresh) = (fingerprint(&other).await, fingerprint(&one).await);
    for (_, object) in OBJECTS {
        says(&one, &make(object)).await;
    }
    assert_eq!(differences(&before, &fingerprint(&other).await), [""; 0]);
    assert_eq!(differences(&fresh, &fingerprint(&one).await).len(), 2 * OBJECTS.len(), "the control");
}
