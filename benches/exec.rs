//! What a container costs, beside what the same costs without one.
//!
//! `cargo bench --bench exec`. Every figure of a container is measured in turn with its floor, a few of one, a few of the
//! other, so that a machine whose speed drifts slows both. The table at the end has the medians and their ratio.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cellblock::{Builder, Command, Container, Filter, Limits, Mount, OpenFile, Tmpfs};
use criterion::Criterion;
use futures::future::join_all;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::{self, Runtime};

/// For how long one is run before the other has its turn, about.
const TURN: Duration = Duration::from_millis(10);

fn main() {
    cellblock::init();
    if std::env::args().nth(1).is_some_and(|argument| argument == "echo") {
        return echo();
    }
    let mut bench = Bench {
        criterion: Criterion::default()
            .configure_from_args()
            .sample_size(30)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(4)),
        rows: Vec::new(),
    };
    let tools = tempfile::tempdir().unwrap();
    make_static_true(tools.path());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtimes = [
        ("current-thread", runtime::Builder::new_current_thread().enable_all().build().unwrap()),
        ("multi-thread", runtime::Builder::new_multi_thread().enable_all().build().unwrap()),
    ];
    for (flavour, runtime) in &runtimes {
        let builder = builder().mount(Mount::bind(tools.path(), "/tools"));
        let containers: Vec<_> = (0..cores).map(|_| runtime.block_on(builder.build()).unwrap()).collect();
        for (what, inside, outside) in [
            ("/bin/true", "/bin/true", c"/bin/true".to_owned()),
            ("static", "/tools/true", std::ffi::CString::new(format!("{}/true", tools.path().display())).unwrap()),
        ] {
            for at_once in [1, cores] {
                bench.pair(
                    &format!("run {what}, {at_once} at a time, {flavour}"),
                    |count| spawn_bare(&outside, count, at_once),
                    |count| run_warm(runtime, &containers[..at_once], &Command::new(inside), count),
                );
            }
        }
        let limited = containers_of(runtime, &builder, cores);
        let unfiltered = containers_of(runtime, &builder.clone().filter(Filter::Off), cores);
        for (what, containers, command) in [
            ("without a limit, unfiltered", &unfiltered, command(unlimited())),
            ("without a limit", &limited, command(unlimited())),
            ("with all limits", &limited, command(limits())),
        ] {
            bench.pair(
                &format!("run /bin/true {what}, {cores} at a time, {flavour}"),
                |count| spawn_bare(c"/bin/true", count, cores),
                |count| run_warm(runtime, containers, &command, count),
            );
        }
        bench.pair(
            &format!("run /bin/true with all limits and captured, {cores} at a time, {flavour}"),
            |count| spawn_bare(c"/bin/true", count, cores),
            |count| capture_warm(runtime, &limited, &command(limits()), count),
        );
        bench.after_idling(
            &format!("run /bin/true with all limits and captured, after 50 ms, {flavour}"),
            || spawn_bare(c"/bin/true", 1, 1),
            || capture_warm(runtime, &limited[..1], &command(limits()), 1),
        );
        for container in limited.into_iter().chain(unfiltered) {
            runtime.block_on(container.destroy());
        }
        let container = &containers[0];
        for (what, program, bytes) in [("/bin/true", "/bin/true", 0), ("cat of 1 MiB", "/bin/cat", 1 << 20)] {
            let input = vec![b'x'; bytes];
            bench.pair(
                &format!("spawn {what} with three pipes, {flavour}"),
                |count| timed(runtime, count, async || talk_bare(program, &input).await),
                |count| timed(runtime, count, async || talk(container, program, &input).await),
            );
        }
        let mut hooked = Command::new("/bin/true");
        hooked.pid_hook(|_, _| std::future::ready(Ok(())));
        bench.pair(
            &format!("run /bin/true without a hook, and with one, {flavour}"),
            |count| run_warm(runtime, &containers[..1], &Command::new("/bin/true"), count),
            |count| run_warm(runtime, &containers[..1], &hooked, count),
        );
        let everywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut here = CpuSet::new();
        here.set(0).unwrap();
        // A wake-up on another processor costs several times one on the same; where the scheduler puts the two processes
        // is luck. So once where it likes, and once on one processor.
        for (place, cpus) in [("anywhere", everywhere), ("on one processor", here)] {
            sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
            let (container, mut echo) = (runtime.block_on(builder.build()).unwrap(), Echo::start());
            bench.pair(
                &format!("ping, {place}, {flavour}"),
                |count| echo.round_trips(count),
                |count| timed(runtime, count, async || container.ping(Duration::from_secs(1)).await.unwrap()),
            );
            runtime.block_on(container.destroy());
        }
        sched_setaffinity(Pid::from_raw(0), &everywhere).unwrap();
        for files in [1, 16, 200] {
            let names: Vec<_> = (0..files).map(|number| format!("file{number}")).collect();
            bench.alone(&format!("open {files} files, {flavour}"), |count| {
                timed(runtime, count, async || {
                    let opened = container.open(names.iter().map(|name| OpenFile::write(name, 0o644))).await.unwrap();
                    assert!(opened.iter().all(Result::is_ok));
                })
            });
        }
        bench.alone(&format!("reset after 100 files, {flavour}"), |count| {
            (0..count).map(|_| reset_after(runtime, container, 100)).sum()
        });
        bench.alone(&format!("build and destroy, {flavour}"), |count| {
            timed(runtime, count, async || builder.build().await.unwrap().destroy().await)
        });
        let tree = Mount::overlay([tools.path()], "/overlay", Tmpfs::new());
        let with_overlay = builder.clone().mount(tree);
        bench.pair(
            &format!("build and destroy without an overlay, and with one, {flavour}"),
            |count| timed(runtime, count, async || builder.build().await.unwrap().destroy().await),
            |count| timed(runtime, count, async || with_overlay.build().await.unwrap().destroy().await),
        );
        let covered = runtime.block_on(with_overlay.build()).unwrap();
        bench.alone(&format!("reset with an overlay, {flavour}"), |count| {
            timed(runtime, count, async || covered.reset().await.unwrap())
        });
        for container in containers.into_iter().chain([covered]) {
            runtime.block_on(container.destroy());
        }
    }
    bench.finish();
    println!("\nmemory of an idle init, with two alive (Private_Clean + Private_Dirty):");
    for (name, builder) in [("cellblock-init", builder()), ("the host's own executable", Container::builder())] {
        println!("  {name}: {} KiB", idle_memory(&runtimes[0].1, &builder));
    }
}

fn containers_of(runtime: &Runtime, builder: &Builder, count: usize) -> Vec<Container> {
    (0..count).map(|_| runtime.block_on(builder.build()).unwrap()).collect()
}

fn command(limits: Limits) -> Command {
    let mut command = Command::new("/bin/true");
    command.limits(limits);
    command
}

/// What a judge would set.
fn limits() -> Limits {
    let limits = Limits::new().cpu_time(Duration::from_secs(1)).wall_time(Duration::from_secs(2));
    limits.memory(64 << 20).processes(32).output(1 << 20).weaker(true)
}

fn unlimited() -> Limits {
    let limits = Limits::new().wall_time(Duration::MAX).memory(u64::MAX).processes(u32::MAX);
    limits.stack(u64::MAX).open_files(u64::MAX)
}

fn builder() -> Builder {
    Container::builder().init_exe(env!("CARGO_BIN_EXE_cellblock-init"))
}

struct Bench {
    criterion: Criterion,
    rows: Vec<Row>,
}

/// The figures of each sample: the floor's, where there is one, and the container's, per operation.
struct Row {
    name: String,
    samples: Vec<(Option<Duration>, Duration)>,
}

impl Bench {
    fn pair(&mut self, name: &str, mut floor: impl FnMut(u64) -> Duration, mut subject: impl FnMut(u64) -> Duration) {
        self.measure(name, |count| (Some(floor(count)), subject(count)));
    }

    /// Each after nothing has happened for 50 ms, which is what makes some of the kernel's locks slow.
    fn after_idling(&mut self, name: &str, mut floor: impl FnMut() -> Duration, mut subject: impl FnMut() -> Duration) {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let is_meant = |filter: &String| filter.starts_with('-') || name.contains(filter.as_str());
        if !arguments.iter().all(is_meant) {
            return;
        }
        let rounds = if arguments.iter().any(|argument| argument == "--test") { 1 } else { 60 };
        let idle = |measure: &mut dyn FnMut() -> Duration| {
            std::thread::sleep(Duration::from_millis(50));
            measure()
        };
        let samples = (0..rounds).map(|_| (Some(idle(&mut floor)), idle(&mut subject))).collect();
        self.rows.push(Row { name: name.to_owned(), samples });
    }

    fn alone(&mut self, name: &str, mut subject: impl FnMut(u64) -> Duration) {
        self.measure(name, |count| (None, subject(count)));
    }

    fn measure(&mut self, name: &str, mut turn: impl FnMut(u64) -> (Option<Duration>, Duration)) {
        let mut samples = Vec::new();
        let mut in_a_turn = 1;
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut floor, mut subject) = (None::<Duration>, Duration::ZERO);
                let mut left = iterations;
                while left > 0 {
                    let count = left.min(in_a_turn);
                    let (base, own) = turn(count);
                    if own < TURN {
                        in_a_turn = (in_a_turn * 2).min(128);
                    }
                    floor = base.map(|base| floor.unwrap_or_default() + base);
                    subject += own;
                    left -= count;
                }
                let each = |total: Duration| total.div_f64(iterations as f64);
                samples.push((floor.map(each), each(subject)));
                subject
            });
        });
        // Filtered out by the command line.
        if !samples.is_empty() {
            self.rows.push(Row { name: name.to_owned(), samples });
        }
    }

    fn finish(self) {
        println!("\n| what | floor, µs | cellblock, µs | ratio |\n|---|---|---|---|");
        for Row { name, samples } in &self.rows {
            let own = median(samples.iter().map(|(_, own)| own.as_secs_f64() * 1e6));
            let floors: Vec<_> = samples.iter().filter_map(|(floor, own)| Some(((*floor)?, *own))).collect();
            if floors.is_empty() {
                println!("| {name} | | {own:.1} | |");
                continue;
            }
            let floor = median(floors.iter().map(|(floor, _)| floor.as_secs_f64() * 1e6));
            let ratio = median(floors.iter().map(|(floor, own)| own.as_secs_f64() / floor.as_secs_f64()));
            println!("| {name} | {floor:.1} | {own:.1} | {ratio:.2} |");
        }
        self.criterion.final_summary();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(runtime: &Runtime, count: u64, mut operation: impl AsyncFnMut()) -> Duration {
    let start = Instant::now();
    runtime.block_on(async {
        for _ in 0..count {
            operation().await;
        }
    });
    start.elapsed()
}

/// The wall time of `count` runs in each container, all containers at once.
fn run_warm(runtime: &Runtime, containers: &[Container], command: &Command, count: u64) -> Duration {
    let start = Instant::now();
    runtime.block_on(join_all(containers.iter().map(async |container| {
        for _ in 0..count {
            assert!(container.run(command).await.unwrap().status.success());
        }
    })));
    start.elapsed()
}

/// The same, with what the program prints.
fn capture_warm(runtime: &Runtime, containers: &[Container], command: &Command, count: u64) -> Duration {
    let start = Instant::now();
    runtime.block_on(join_all(containers.iter().map(async |container| {
        for _ in 0..count {
            assert!(container.output(command).await.unwrap().report.status.success());
        }
    })));
    start.elapsed()
}

/// Starts a program on three pipes, gives it the input, and reads its outputs to their ends.
async fn talk(container: &Container, program: &str, input: &[u8]) {
    let mut command = Command::new(program);
    command.stdin(cellblock::Stdio::piped()).stdout(cellblock::Stdio::piped()).stderr(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    let streams = (process.stdin.take().unwrap(), process.stdout.take().unwrap(), process.stderr.take().unwrap());
    assert_eq!(exchange(streams, input).await, input.len());
    assert!(process.wait().await.unwrap().status.success());
}

/// The same without a container.
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
        // The program may have ended by itself.
        drop(stdin.write_all(input).await);
        drop(stdin);
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let ((), read, _) = tokio::join!(write, stdout.read_to_end(&mut output), stderr.read_to_end(&mut errors));
    read.unwrap()
}

/// The wall time of `count` times posix_spawn and waitpid in each of so many threads.
fn spawn_bare(program: &CStr, count: u64, at_once: usize) -> Duration {
    let spawn = || {
        let (actions, attributes) = (PosixSpawnFileActions::init().unwrap(), PosixSpawnAttr::init().unwrap());
        let none: [&CStr; 0] = [];
        for _ in 0..count {
            let pid = posix_spawn(program, &actions, &attributes, &[program], &none).unwrap();
            waitpid(pid, None).unwrap();
        }
    };
    let start = Instant::now();
    if at_once == 1 {
        spawn();
    } else {
        std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(spawn))));
    }
    start.elapsed()
}

/// The time of the reset alone.
fn reset_after(runtime: &Runtime, container: &Container, files: usize) -> Duration {
    runtime.block_on(async {
        let files = (0..files).map(|number| OpenFile::write(format!("small{number}"), 0o644));
        for file in container.open(files).await.unwrap() {
            file.unwrap().write_all(b"small").unwrap();
        }
        let start = Instant::now();
        container.reset().await.unwrap();
        start.elapsed()
    })
}

/// Another process, which sends back what it is sent.
struct Echo {
    /// Dropped first, which is the other's end.
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

/// The smallest program there is.
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

/// KiB that one init has for itself while another one lives.
fn idle_memory(runtime: &Runtime, builder: &Builder) -> u64 {
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
