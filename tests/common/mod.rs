//! Shared helpers: containers with the small init, scripts, other processes, leak snapshots.
#![allow(dead_code, unused_imports, missing_docs, reason = "each suite uses its own part")]

use std::collections::BTreeSet;
use std::fs;
use std::future::poll_fn;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command as HostCommand, Stdio as HostStdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use cellblock::{Command, Container, ContainerBuilder, Error, ErrorKind, Output, report::Status};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[path = "../../fuzz/harness/random.rs"]
pub mod random;

pub const SECOND: Duration = Duration::from_secs(1);

/// The status of a killed program.
pub const KILLED: Status = Status::Signaled { signal: 9, core_dumped: false };

/// A builder whose init is `cellblock-init`.
pub fn builder() -> ContainerBuilder {
    Container::builder().init_exe(init_exe())
}

pub fn init_exe() -> PathBuf {
    env!("CARGO_BIN_EXE_cellblock-init").into()
}

pub async fn container() -> Container {
    builder().build().await.unwrap()
}

/// Runs a shell script with a PATH.
pub fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("PATH", "/usr/bin:/bin");
    command
}

/// Runs a Python program by the path that it has on Debian.
pub fn python(source: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-Sc", source]).env("PATH", "/usr/bin:/bin");
    command
}

/// The stdout of a program, which must succeed and write nothing to stderr.
pub async fn says(container: &Container, command: &Command) -> String {
    let Output { report, stdout, stderr, .. } = container.output(command).await.unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(report.status.success() && stderr.is_empty(), "{command:?}: {}: {stderr}", report.status);
    String::from_utf8(stdout).unwrap().trim_end().to_owned()
}

/// Whether an error says that the container was lost, and that a retry in another one can help.
pub fn is_lost(error: &Error) -> bool {
    error.kind() == ErrorKind::Lost && error.is_retryable()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether programs run with ids of their own. They do if the host is root, or has subordinate ids
/// (subuid(5)).
pub fn has_own_ids() -> bool {
    let uid = nix::unistd::geteuid();
    let names = [Some(uid.to_string()), nix::unistd::User::from_uid(uid).unwrap().map(|user| user.name)];
    let is_granted = |file| {
        let lines = fs::read_to_string(file).unwrap_or_default();
        lines.lines().any(|line| names.iter().flatten().any(|name| line.starts_with(&format!("{name}:"))))
    };
    let is_there = |tool| PathBuf::from("/usr/bin").join(tool).exists();
    is_root()
        || ["/etc/subuid", "/etc/subgid"].into_iter().all(is_granted)
            && ["newuidmap", "newgidmap"].into_iter().all(is_there)
}

/// Whether bounds of time do not hold, because the machine is emulated.
pub fn is_slow() -> bool {
    std::env::var_os("CELLBLOCK_TEST_SLOW").is_some()
}

/// What the tests may expect of this machine. `CELLBLOCK_TEST_MACHINE` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// A machine that has everything: [`lacks`] fails the test.
    Whole,
    /// A virtual machine of `tests/vm/run`, which ends with the tests.
    Throwaway,
    /// A machine that may lack things. The default.
    Any,
}

pub fn machine() -> Machine {
    match std::env::var("CELLBLOCK_TEST_MACHINE").as_deref() {
        Ok("whole") => Machine::Whole,
        Ok("throwaway") => Machine::Throwaway,
        Ok(other) => panic!("no such machine: {other}"),
        Err(_) => Machine::Any,
    }
}

/// Prints that a test, or a part of it, is skipped.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // The harness captures the output of print macros, but not of `write_all`.
    io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes()).unwrap();
}

/// Skips a test, or a part of it, because this machine lacks something that the test needs.
pub fn lacks(what: &str) {
    assert_ne!(machine(), Machine::Whole, "this machine lacks {what}");
    skip(&format!("this machine lacks {what}"));
}

/// Waits for the other tests that take a turn. The guard keeps the next ones waiting.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A failed test poisons the lock, and does not concern the next one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test in its [turn], with a snapshot taken before it.
pub fn alone(test: impl AsyncFnOnce(LeakSnapshot)) {
    let _turn = turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The library keeps some things after the first container; make them exist before the
        // snapshot.
        container().await.destroy().await;
        test(LeakSnapshot::take()).await;
    });
}

/// Lowers this process's limit of open files until it is dropped.
pub struct FewDescriptors {
    soft: u64,
    hard: u64,
}

impl FewDescriptors {
    /// Allows only descriptors below a number.
    pub fn below(number: u64) -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, number, hard).unwrap();
        Self { soft, hard }
    }

    /// Leaves room for this many more descriptors.
    pub fn with_room_for(count: u64) -> Self {
        let lowest_free = (0..).find(|fd| !Path::new(&format!("/proc/self/fd/{fd}")).exists()).unwrap();
        Self::below(lowest_free + count)
    }
}

impl Drop for FewDescriptors {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard).unwrap();
    }
}

/// The variable that tells a process started by [`another_host`] its role.
pub const ROLE: &str = "CELLBLOCK_TEST_ROLE";

/// A command that runs this test executable as another host. The suite's test `another_host` plays
/// the role. If `through` is not empty, it is a command line that executes its further arguments.
pub fn another_host(role: &str, through: &[&str]) -> HostCommand {
    let own = std::env::current_exe().unwrap();
    let words = [through, &[own.to_str().unwrap(), "--exact", "another_host", "--nocapture"]].concat();
    let mut command = HostCommand::new(words[0]);
    command.args(&words[1..]).env(ROLE, role).stdout(HostStdio::piped());
    command
}

/// Reads the output of another host up to this line. The pipe stays open, so the host can write on.
pub fn read_up_to(wanted: &str, host: &mut Child) {
    let mut said = BufReader::new(host.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.ends_with(wanted)), "the other host never said {wanted}");
}

/// Waits until a condition holds; fails after ten seconds.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Polls a future up to this often, drops it, and returns its output if it completed. The next poll
/// comes after a wake-up, or after a millisecond without one.
pub async fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        let mut is_polled = false;
        let once = poll_fn(|context| match std::mem::replace(&mut is_polled, true) {
            false => future.as_mut().poll(context).map(Some),
            true => Poll::Ready(None),
        });
        // `Ok(None)` is a wake-up and `Err` the timeout; the future has not completed.
        if let Ok(Some(result)) = tokio::time::timeout(Duration::from_millis(1), once).await {
            return Some(result);
        }
    }
    None
}

/// What this process has, to be compared before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakSnapshot {
    /// Whether the control groups of runs count. They change while a container lives.
    counts_groups: bool,
    pub fds: BTreeSet<String>,
    /// Includes zombies.
    pub children: BTreeSet<u32>,
    pub mounts: Vec<String>,
    /// The entries of directories where the library might leave a file.
    pub directories: BTreeSet<PathBuf>,
    /// The control groups of this process's runs.
    pub groups: BTreeSet<PathBuf>,
}

impl LeakSnapshot {
    pub fn take() -> Self {
        Self::count(true)
    }

    /// A snapshot to be compared while a container lives.
    pub fn beside_a_container() -> Self {
        Self::count(false)
    }

    fn count(counts_groups: bool) -> Self {
        let fds = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let target = fs::read_link(&path).ok()?;
            Some(format!("{} {}", path.display(), target.display()))
        });
        let is_lasting = |fd: &String| {
            // The library keeps one sealed executable for each path on purpose. The last condition
            // excludes the descriptor of this listing.
            (counts_groups || !fd.contains("/cellblock-runs-"))
                && !fd.contains("memfd:cellblock-init")
                && !fd.ends_with(&format!("/proc/{}/fd", std::process::id()))
        };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let entries = |dir| fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        Self {
            counts_groups,
            fds: fds.filter(is_lasting).collect(),
            children: children(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            directories: ["/", "/run", "/var/run", "/dev/shm"].into_iter().flat_map(entries).collect(),
            groups: if counts_groups { groups_of(std::process::id()) } else { BTreeSet::new() },
        }
    }

    /// Waits until the process has again exactly what it had at the snapshot; fails after ten
    /// seconds.
    pub async fn assert_restored(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        let now = || Self::count(self.counts_groups);
        while now() != *self {
            if Instant::now() > end {
                assert_eq!(now(), *self);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The control groups of the runs of one host.
pub fn groups_of(host: u32) -> BTreeSet<PathBuf> {
    fn look(dir: &Path, depth: u32, prefix: &str, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(io::Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.insert(entry.path());
            } else if depth > 0 {
                look(&entry.path(), depth - 1, prefix, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    look(Path::new("/sys/fs/cgroup"), 5, &format!("cellblock-runs-{host}-"), &mut found);
    found
}

/// The children of this process, zombies included.
pub fn children() -> BTreeSet<u32> {
    let lists = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // A thread may have ended meanwhile.
        fs::read_to_string(task.ok()?.path().join("children")).ok()
    });
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// The pids on the host of all processes whose command line contains this text.
pub fn processes_with(text: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    })
    .collect()
}

/// A temporary directory that every user may enter.
pub fn open_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Builds a C program.
pub fn cc(source: &str, output: &Path) {
    gcc(source, output, &[]);
}

/// Builds a static C program.
pub fn cc_static(source: &str, output: &Path) {
    gcc(source, output, &["-static"]);
}

/// Builds a C program with these compiler options.
pub fn gcc(source: &str, output: &Path, options: &[&str]) {
    let file = output.with_extension("c");
    fs::write(&file, source).unwrap();
    let status = HostCommand::new("gcc").args(["-O1", "-o"]).arg(output).arg(file).args(options).status().unwrap();
    assert!(status.success());
}
