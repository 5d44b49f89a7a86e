//! The cost of a container's operations, next to the cost of the same operation without a
//! container.
//!
//! `cargo bench --bench exec`. Each operation alternates with its floor, a few iterations of each
//! at a time, so that a machine whose speed drifts slows both. The table at the end shows the
//! medians and their ratio.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cellblock::{
    Command, Container, ContainerBuilder, Limits, Mount, container::OpenFile, mount::Tmpfs, seccomp::Filter,
};
use common::{Bench, builder, limits, spawn_bare, timed};
use futures::future::join_all;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{self, Runtime};

fn main() {
    cellblock::init();
    if std::env::args().nth(1).is_some_and(|argument| argument == "echo") {
        return echo();
    }
    let mut bench = Bench::new();
    let tools = tempfile::tempdir().unwrap();
    make_static_true(tools.path());
    let runtimes = [
        ("current-thread", runtime::Builder::new_current_thread().enable_all().build().unwrap()),
        ("multi-thread", runtime::Builder::new_multi_thread().enable_all().build().unwrap()),
    ];
    for (flavor, runtime) in &runtimes {
        let builder = builder().mount(Mount::bind(tools.path(), "/tools"));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let containers = containers_of(runtime, &builder, cores);
        let setting = Setting { flavor, runtime, tools: tools.path(), builder, cores, containers };
        setting.runs(&mut bench);
        setting.limited_runs(&mut bench);
        setting.spawns(&mut bench);
        setting.hooks(&mut bench);
        setting.pings(&mut bench);
        setting.files(&mut bench);
        setting.builds(&mut bench);
        setting.destroy(setting.containers.iter());
    }
    bench.finish();
    println!("\nmemory of an idle init, with two alive (Private_Clean + Private_Dirty):");
    for (name, builder) in [("cellblock-init", builder()), ("the host's own executable", Container::builder())] {
        println!("  {name}: {} KiB", idle_memory(&runtimes[0].1, &builder));
    }
}

/// A runtime, and containers on it: one for each core.
struct Setting<'a> {
    flavor: &'a str,
    runtime: &'a Runtime,
    /// The directory of the static program. Containers see it as `/tools`.
    tools: &'a Path,
    builder: ContainerBuilder,
    cores: usize,
    containers: Vec<Container>,
}

impl Setting<'_> {
    fn runs(&self, bench: &mut Bench) {
        let Self { flavor, runtime, tools, cores, containers, .. } = self;
        for (what, inside, outside) in [
            ("/bin/true", "/bin/true", c"/bin/true".to_owned()),
            ("static", "/tools/true", std::ffi::CString::new(format!("{}/true", tools.display())).unwrap()),
        ] {
            for at_once in [1, *cores] {
                bench.pair(
                    &format!("run {what}, {at_once} at a time, {flavor}"),
                    |count| spawn_bare(&outside, count, at_once),
                    |count| run_warm(runtime, &containers[..at_once], &Command::new(inside), count),
                );
            }
        }
    }

    fn limited_runs(&self, bench: &mut Bench) {
        let Self { flavor, runtime, builder, cores, .. } = self;
        let cores = *cores;
        let limited = containers_of(runtime, builder, cores);
        let unfiltered = containers_of(runtime, &builder.clone().filter(Filter::Off), cores);
        for (what, containers, command) in [
            ("without a limit, unfiltered", &unfiltered, command(unlimited())),
            ("without a limit", &limited, command(unlimited())),
            ("with all limits", &limited, command(limits())),
        ] {
            bench.pair(
                &format!("run /bin/true {what}, {cores} at a time, {flavor}"),
                |count| spawn_bare(c"/bin/true", count, cores),
                |count| run_warm(runtime, containers, &command, count),
            );
        }
        bench.pair(
            &format!("run /bin/true with all limits and captured, {cores} at a time, {flavor}"),
            |count| spawn_bare(c"/bin/true", count, cores),
            |count| capture_warm(runtime, &limited, &command(limits()), count),
        );
        bench.after_idling(
            &format!("run /bin/true with all limits and captured, after 50 ms, {flavor}"),
            || spawn_bare(c"/bin/true", 1, 1),
            || capture_warm(runtime, &limited[..1], &command(limits()), 1),
        );
        self.destroy(limited.iter().chain(&unfiltered));
    }

    fn spawns(&self, bench: &mut Bench) {
        let Self { flavor, runtime, containers, .. } = self;
        for (what, program, bytes) in [("/bin/true", "/bin/true", 0), ("cat of 1 MiB", "/bin/cat", 1 << 20)] {
            let input = vec![b'x'; bytes];
            bench.pair(
                &format!("spawn {what} with three pipes, {flavor}"),
                |count| timed(runtime, count, async || talk_bare(program, &input).await),
                |count| timed(runtime, count, async || talk(&containers[0], program, &input).await),
            );
        }
    }

    fn hooks(&self, bench: &mut Bench) {
        let Self { flavor, runtime, containers, .. } = self;
        let mut hooked = Command::new("/bin/true");
        hooked.pid_hook(|_, _| std::future::ready(Ok(())));
        bench.pair(
            &format!("run /bin/true without a hook, and with one, {flavor}"),
            |count| run_warm(runtime, &containers[..1], &Command::new("/bin/true"), count),
            |count| run_warm(runtime, &containers[..1], &hooked, count),
        );
    }

    fn pings(&self, bench: &mut Bench) {
        let Self { flavor, runtime, builder, .. } = self;
        let everywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut here = CpuSet::new();
        here.set(0).unwrap();
        // Waking a process on another processor costs several times as much as on the same one, and
        // the scheduler places the two processes by chance. So measure both: anywhere, and on one
        // processor.
        for (place, cpus) in [("anywhere", everywhere), ("on one processor", here)] {
            sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
            let (container, mut echo) = (runtime.block_on(builder.build()).unwrap(), Echo::start());
            bench.pair(
                &format!("ping, {place}, {flavor}"),
                |count| echo.round_trips(count),
                |count| timed(runtime, count, async || container.ping(Duration::from_secs(1)).await.unwrap()),
            );
            runtime.block_on(container.destroy());
        }
        sched_setaffinity(Pid::from_raw(0), &everywhere).unwrap();
    }

    fn files(&self, bench: &mut Bench) {
        let Self { flavor, runtime, tools, containers, .. } = self;
        for files in [1, 16, 200] {
            let names: Vec<_> = (0..files).map(|number| format!("file{number}")).collect();
            bench.alone(&format!("open {files} files, {flavor}"), |count| {
                timed(runtime, count, async || {
                    let files = names.iter().map(OpenFile::write);
                    let opened = containers[0].open(files).await.unwrap();
                    assert!(opened.iter().all(Result::is_ok));
                })
            });
        }
        bench.pair(
            &format!("write and read a small file, {flavor}"),
            |count| timed(runtime, count, async || containers[0].write("small", *b"small").await.unwrap()),
            |count| timed(runtime, count, async || drop(containers[0].read("small", 100).await.unwrap())),
        );
        let tree = tools.join("tree");
        make_small_files(&tree, 1000);
        let copies = tempfile::tempdir_in("/dev/shm").unwrap();
        bench.pair(
            &format!("copy 1,000 small files in, {flavor}"),
            |count| (0..count).map(|_| copy_plainly(&tree, copies.path())).sum(),
            |count| {
                let copy = async || containers[0].copy_in(&tree, "tree").await.unwrap();
                (0..count).map(|_| after_reset(runtime, &containers[0], copy)).sum()
            },
        );
        runtime.block_on(containers[0].copy_in(&tree, "tree")).unwrap();
        bench.alone(&format!("copy 1,000 small files out, {flavor}"), |count| {
            timed(runtime, count, async || containers[0].copy_out("tree", copies.path()).await.unwrap())
        });
        bench.alone(&format!("reset after 100 files, {flavor}"), |count| {
            (0..count).map(|_| reset_after(runtime, &containers[0], 100)).sum()
        });
    }

    fn builds(&self, bench: &mut Bench) {
        let Self { flavor, runtime, tools, builder, .. } = self;
        let build_and_destroy = |builder: &ContainerBuilder, count| {
            timed(runtime, count, async || builder.build().await.unwrap().destroy().await)
        };
        bench.alone(&format!("build and destroy, {flavor}"), |count| build_and_destroy(builder, count));
        let with_overlay = builder.clone().mount(Mount::overlay([tools], "/overlay", Tmpfs::new()));
        bench.pair(
            &format!("build and destroy without an overlay, and with one, {flavor}"),
            |count| build_and_destroy(builder, count),
            |count| build_and_destroy(&with_overlay, count),
        );
        let covered = runtime.block_on(with_overlay.build()).unwrap();
        bench.alone(&format!("reset with an overlay, {flavor}"), |count| {
            timed(runtime, count, async || covered.reset().await.unwrap())
        });
        runtime.block_on(covered.destroy());
    }

    fn destroy<'a>(&self, containers: impl Iterator<Item = &'a Container>) {
        containers.for_each(|container| self.runtime.block_on(container.destroy()));
    }
}

fn containers_of(runtime: &Runtime, builder: &ContainerBuilder, count: usize) -> Vec<Container> {
    (0..count).map(|_| runtime.block_on(builder.build()).unwrap()).collect()
}

fn command(limits: Limits) -> Command {
    let mut command = Command::new("/bin/true");
    command.limits(limits);
    command
}

fn unlimited() -> Limits {
    let limits = Limits::new().wall_time(Duration::MAX).memory(u64::MAX).processes(u32::MAX);
    limits.stack(u64::MAX).open_files(u64::MAX)
}

/// The wall time of `count` runs in each container, with all containers at once.
fn run_warm(runtime: &Runtime, containers: &[Container], command: &Command, count: u64) -> Duration {
    let start = Instant::now();
    runtime.block_on(join_all(containers.iter().map(async |container| {
        for _ in 0..count {
            assert!(container.run(command).await.unwrap().status.success());
        }
    })));
    start.elapsed()
}

/// The wall time of `count` runs in each container with captured output.
fn capture_warm(runtime: &Runtime, containers: &[Container], command: &Command, count: u64) -> Duration {
    let start = Instant::now();
    runtime.block_on(join_all(containers.iter().map(async |container| {
        for _ in 0..count {
            assert!(container.output(command).await.unwrap().report.status.success());
        }
    })));
    start.elapsed()
}

/// Runs a program on three pipes: writes the input and reads both outputs to their ends.
async fn talk(container: &Container, program: &str, input: &[u8]) {
    let mut command = Command::new(program);
    command.stdin(cellblock::Stdio::piped()).stdout(cellblock::Stdio::piped()).stderr(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    let streams = (process.stdin.take().unwrap(), process.stdout.take().unwrap(), process.stderr.take().unwrap());
    assert_eq!(exchange(streams, input).await, input.len());
    assert!(process.wait().await.unwrap().status.success());
}

/// Does the same without a container.
async fn talk_bare(program: &str, input: &[u8]) {
    let mut command = tokio::process::Command::new(program);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let streams = (process.stdin.take().unwrap(), process.stdout.take().unwrap(), process.stderr.take().unwrap());
    assert_eq!(exchange(streams, input).await, input.len());
    assert!(process.wait().await.unwrap().success());
}

async fn exchange<I, O, E>((mut stdin, mut stdout, mut stderr): (I, O, E), input: &[u8]) -> usize
where
    I: AsyncWrite + Unpin,
    O: AsyncRead + Unpin,
    E: AsyncRead + Unpin,
{
    let write = async {
        // The program may exit without reading its input.
        drop(stdin.write_all(input).await);
        drop(stdin);
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let ((), read, _) = tokio::join!(write, stdout.read_to_end(&mut output), stderr.read_to_end(&mut errors));
    read.unwrap()
}

/// Makes files of 100 bytes in ten directories.
fn make_small_files(tree: &Path, count: usize) {
    for number in 0..count {
        let dir = tree.join(format!("dir{}", number % 10));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("file{number}")), [b'x'; 100]).unwrap();
    }
}

/// The time to copy a tree of two levels by plain calls, without the time to remove the last copy.
fn copy_plainly(from: &Path, to: &Path) -> Duration {
    let to = to.join("plain");
    std::fs::remove_dir_all(&to).ok();
    let start = Instant::now();
    for dir in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let copy = to.join(dir.file_name().unwrap());
        std::fs::create_dir_all(&copy).unwrap();
        for file in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::write(copy.join(file.file_name().unwrap()), std::fs::read(&file).unwrap()).unwrap();
        }
    }
    start.elapsed()
}

/// The time of an operation, without the reset before it.
fn after_reset(runtime: &Runtime, container: &Container, operation: impl AsyncFnOnce()) -> Duration {
    runtime.block_on(async {
        container.reset().await.unwrap();
        let start = Instant::now();
        operation().await;
        start.elapsed()
    })
}

/// The time of a reset, without the time to write the files.
fn reset_after(runtime: &Runtime, container: &Container, files: usize) -> Duration {
    runtime.block_on(async {
        let files = (0..files).map(|number| OpenFile::write(format!("small{number}")));
        for file in container.open(files).await.unwrap() {
            file.unwrap().write_all(b"small").unwrap();
        }
        let start = Instant::now();
        container.reset().await.unwrap();
        start.elapsed()
    })
}

/// A process that echoes datagrams.
struct Echo {
    /// `drop` closes this first, and that ends the process.
    socket: Option<OwnedFd>,
    process: std::process::Child,
}

impl Echo {
    fn start() -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let process = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("echo")
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        Self { socket: Some(socket), process }
    }

    fn round_trips(&mut self, count: u64) -> Duration {
        use std::os::fd::AsRawFd;
        let (socket, mut buffer) = (self.socket.as_ref().unwrap().as_raw_fd(), [0; 64]);
        let start = Instant::now();
        for _ in 0..count {
            send(socket, b"0123456789", MsgFlags::empty()).unwrap();
            assert_eq!(recv(socket, &mut buffer, MsgFlags::empty()), Ok(10));
        }
        start.elapsed()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.socket = None;
        self.process.wait().unwrap();
    }
}

fn echo() {
    let mut buffer = [0; 64];
    while let Ok(size @ 1..) = recv(0, &mut buffer, MsgFlags::empty()) {
        send(0, &buffer[..size], MsgFlags::empty()).unwrap();
    }
}

/// Builds a static program that only exits.
fn make_static_true(dir: &Path) {
    let source = dir.join("true.c");
    let exit = r#"
        #include <sys/syscall.h>
        void _start(void) {
        #if defined(__x86_64__)
            __asm__ volatile("syscall" : : "a"(SYS_exit), "D"(0));
        #else
            register long x8 __asm__("x8") = SYS_exit;
            register long x0 __asm__("x0") = 0;
            __asm__ volatile("svc 0" : : "r"(x8), "r"(x0));
        #endif
        }"#;
    std::fs::write(&source, exit).unwrap();
    let built = std::process::Command::new("gcc")
        .args(["-static", "-nostdlib", "-O1", "-o"])
        .args([dir.join("true"), source])
        .status()
        .unwrap();
    assert!(built.success());
}

/// The private memory of an idle init in KiB, while another one lives.
fn idle_memory(runtime: &Runtime, builder: &ContainerBuilder) -> u64 {
    let before = children();
    let containers = [(); 2].map(|()| runtime.block_on(builder.build()).unwrap());
    let init = *children().difference(&before).next().unwrap();
    let mut smaps = String::new();
    File::open(format!("/proc/{init}/smaps_rollup")).unwrap().read_to_string(&mut smaps).unwrap();
    for container in containers {
        runtime.block_on(container.destroy());
    }
    let figure = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    smaps.lines().filter(|line| line.starts_with("Private_")).map(figure).sum()
}

fn children() -> BTreeSet<u32> {
    let mut children = String::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path().join("children");
        children += &std::fs::read_to_string(path).unwrap();
    }
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}
