//! Hostile runs, and the host's account before and after them: kernel memory, open files, groups
//! and descriptors.
//!
//! `CELLBLOCK_TEST_SOAK` sets the number of runs (96).

use std::time::Instant;

use cellblock::Limits;

use super::*;
use crate::common::{LeakSnapshot, another_host};

const CONTAINERS: u64 = 4;

/// What a run has taken of the kernel when it ends. Each part takes another resource.
const HOARDS: [&str; 13] = [
    "for m in range(20):
    f = os.open('locks%d' % m, os.O_CREAT | os.O_RDWR)
    for n in range(1000): fcntl.lockf(f, fcntl.LOCK_EX, 1, 2 * n)",
    "ends = [socket.socketpair() for _ in range(300)]
for a, b in ends: socket.send_fds(a, [b'x'], [a.fileno(), b.fileno()])",
    "kept = [os.memfd_create(str(n), os.MFD_ALLOW_SEALING) for n in range(500)]
for fd in kept: os.write(fd, b'x' * 20000); fcntl.fcntl(fd, 1033, 15)",
    "kept = [select.epoll() for _ in range(300)]
for one in kept[1:]: kept[0].register(one)",
    "kept = [os.pipe() for _ in range(400)]
for r, w in kept:
    os.set_blocking(w, False)
    # The kernel counts an ordinary user's pipes for all that the user runs.
    try: fcntl.fcntl(w, 1031, 1 << 17)
    except PermissionError: pass
    os.write(w, b'x' * 60000)",
    "for n in range(8000): os.path.exists('/usr/absent%d.%d' % (os.getpid(), n))",
    "kept = [os.open('.', os.O_TMPFILE | os.O_RDWR) for _ in range(800)]",
    "kept = [socket.socket(socket.AF_UNIX) for _ in range(800)]
for n, one in enumerate(kept): one.bind('\\0%d' % n); one.listen()",
    "for n in range(200): libc.shmget(n, 8192, 0o1600); libc.msgget(n, 0o1600); libc.semget(n, 50, 0o1600)",
    "for n in range(10000): os.mkdir('d%d' % n)",
    "kept = [mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED) for _ in range(3000)]",
    "for n in range(60):
    if os.fork() == 0: signal.pause()",
    "kept = [os.eventfd(0) for _ in range(500)]; [libc.timerfd_create(1, 0) for _ in range(400)]
libc.mlockall(3); libc.prctl(57, 1); [libc.inotify_init() for _ in range(9)]",
];

fn hoard(part: &str) -> Command {
    python(&format!(
        "import ctypes, fcntl, mmap, os, resource, select, signal, socket
libc = ctypes.CDLL(None)
resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
{part}
print('done', flush=True)"
    ))
}

/// The programs of the other attacks.
fn attack(number: u64) -> Command {
    const ATTACKS: [[&str; 2]; 12] = [
        ["take", "signals"],
        ["take", "timers"],
        ["take", "pipes"],
        ["take", "inotify"],
        ["take", "aio contexts"],
        ["fill", "pipes"],
        ["fill", "sockets"],
        ["hang", "orphans"],
        ["hang", "zombies"],
        ["hang", "storm"],
        ["crash", "soak"],
        ["list", ""],
    ];
    attacks().command(&ATTACKS[number as usize % ATTACKS.len()])
}

/// Runs programs that take what they can, with a reset after every third one, and each container
/// replaced once.
async fn storm(place: u64, runs: u64) {
    let mut container = container().await;
    for number in 0..runs {
        let turn = number * CONTAINERS + place;
        let mut command = match turn % 2 {
            0 => hoard(HOARDS[(turn / 2) as usize % HOARDS.len()]),
            _ => attack(turn / 2),
        };
        let is_hoard = turn.is_multiple_of(2);
        let limits = Limits::new().wall_time(if is_hoard { 30 * SECOND } else { SECOND / 2 }).memory(64 << 20);
        let output = container.output(command.limits(limits.processes(64).allow_weaker(true))).await.unwrap();
        assert!(!is_hoard || output.stdout.ends_with(b"done\n"), "{command:?}: {output:?}");
        match number {
            _ if number == runs / 2 => {
                container.destroy().await;
                container = crate::common::container().await;
            }
            _ if number % 3 == 2 => container.reset().await.unwrap(),
            _ => assert_well(&container).await,
        }
    }
    container.destroy().await;
}

/// A figure of the host, and how much more of it there may be after a number of runs.
struct Figure {
    name: &'static str,
    value: u64,
    /// For what other processes of this machine do meanwhile.
    noise: u64,
    /// For each run: less than a run would leave that left one of what it took.
    each: f64,
}

/// The host's account. A figure that this user cannot read, or this kernel has not, is left out.
fn account() -> Vec<Figure> {
    let word = |file: &str, place: usize| {
        fs::read_to_string(file).ok().and_then(|text| text.split_whitespace().nth(place)?.parse::<u64>().ok())
    };
    let line = |file: &str, key: &str, place: usize| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().nth(place)?.parse::<u64>().ok()
    };
    let memory = |key| line("/proc/meminfo", key, 0).map(|kib| kib << 10);
    let uid = format!("{:5}:", nix::unistd::geteuid());
    let figures = [
        ("slabs that the kernel cannot reclaim", memory("SUnreclaim:"), 12 << 20, 4096.0),
        ("all slabs", slabs(), 256 << 20, 4096.0),
        ("memory for each CPU", memory("Percpu:"), 4 << 20, 1024.0),
        ("stacks of the kernel", memory("KernelStack:"), 4 << 20, 1024.0),
        ("shared memory", memory("Shmem:"), 64 << 20, 4096.0),
        ("open files", word("/proc/sys/fs/file-nr", 0), 4000, 0.5),
        ("inodes", word("/proc/sys/fs/inode-nr", 0), 100_000, 4.0),
        ("AIO contexts", word("/proc/sys/fs/aio-nr", 0), 64, 0.0),
        ("terminals", word("/proc/sys/kernel/pty/nr", 0), 8, 0.1),
        ("keys of the user", line("/proc/key-users", &uid, 1), 8, 0.1),
        ("sockets", line("/proc/net/sockstat", "sockets:", 1), 200, 0.1),
        ("memory groups", line("/proc/cgroups", "memory", 1), 100, 0.25),
        ("removed groups", line("/sys/fs/cgroup/cgroup.stat", "nr_dying_descendants", 0), 100, 0.25),
    ];
    let known = figures.into_iter().filter_map(|(name, value, noise, each)| Some((name, value?, noise, each)));
    known.map(|(name, value, noise, each)| Figure { name, value, noise, each }).collect()
}

/// The bytes of all slabs. Only root can read them.
fn slabs() -> Option<u64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let slabs = text.lines().skip(2).filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        Some(words.get(5)?.parse::<u64>().ok()? * words.get(words.len() - 2)?.parse::<u64>().ok()? * 4096)
    });
    Some(slabs.sum())
}

/// The figures that have grown by more than they may, after this many runs.
fn grown(before: &[Figure], runs: u64) -> Vec<String> {
    let after = account();
    let pairs = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| after.value > before.value + before.noise + (before.each * runs as f64) as u64);
    pairs.map(|(before, after)| format!("{}: {} and then {}", before.name, before.value, after.value)).collect()
}

/// The part of the other process: nothing else of it changes its descriptors.
pub(super) fn play() {
    let runs: u64 = std::env::var("CELLBLOCK_TEST_SOAK").map_or(96, |runs| runs.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The first runs fill caches of the kernel that stay.
        futures::future::join_all((0..CONTAINERS).map(|place| storm(place, 7))).await;
        let (before, snapshot) = (account(), LeakSnapshot::take());
        let start = Instant::now();
        futures::future::join_all((0..CONTAINERS).map(|place| storm(place, runs / CONTAINERS))).await;
        println!("{runs} runs in {:?}", start.elapsed());
        snapshot.assert_restored().await;
        // Other processes and tests take and free such things too.
        until("the account is as it was", || {
            let grown = grown(&before, runs);
            if !grown.is_empty() {
                println!("{grown:?}");
            }
            grown.is_empty()
        })
        .await;
        for (before, after) in before.iter().zip(account()) {
            println!("{}: {} and then {}", before.name, before.value, after.value);
        }
        control(runs).await;
    });
}

/// Waits until a condition holds; fails after a minute.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + 60 * SECOND;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(SECOND / 10).await;
    }
}

/// Locks of a program that runs: as much memory as a leak would be.
async fn control(runs: u64) {
    let locks = "for m in range(900):
    f = os.open('locks%d' % m, os.O_CREAT | os.O_RDWR)
    for n in range(1000): fcntl.lockf(f, fcntl.LOCK_EX, 1, 2 * n)
signal.pause()";
    let container = container().await;
    let before = account();
    let mut process = container.spawn(hoard(locks).limits(Limits::new().wall_time(100 * SECOND))).await.unwrap();
    let is_found = || grown(&before, runs).iter().any(|line| line.starts_with("slabs"));
    until("the control: the locks are found", is_found).await;
    process.kill().await.unwrap();
    container.destroy().await;
}

#[test]
fn hostile_runs_leave_the_hosts_account_as_it_was() {
    let output = another_host("soak", &[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
