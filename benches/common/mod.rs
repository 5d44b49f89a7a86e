//! Shared by the benches: paired measurements, and the floor of a run.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "each bench uses its own part")]

use std::ffi::CStr;
use std::time::{Duration, Instant};

use cellblock::{Container, ContainerBuilder, Limits};
use criterion::Criterion;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use tokio::runtime::Runtime;

/// Roughly how long one side of a pair runs before the other side runs.
const TURN: Duration = Duration::from_millis(10);

/// Limits as a judge sets them.
pub fn limits() -> Limits {
    let limits = Limits::new().cpu_time(Duration::from_secs(1)).wall_time(Duration::from_secs(2));
    limits.memory(64 << 20).processes(32).output(1 << 20).allow_weaker(true)
}

pub fn builder() -> ContainerBuilder {
    Container::builder().init_exe(env!("CARGO_BIN_EXE_cellblock-init"))
}

/// Runs measurements with criterion, and keeps their rows for the table.
pub struct Bench {
    criterion: Criterion,
    rows: Vec<Row>,
}

/// The time per operation in each sample: of the floor, if there is one, and of the container.
struct Row {
    name: String,
    samples: Vec<(Option<Duration>, Duration)>,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            criterion: Criterion::default()
                .configure_from_args()
                .sample_size(30)
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(4)),
            rows: Vec::new(),
        }
    }

    /// Measures an operation and its floor in turn.
    pub fn pair(
        &mut self,
        name: &str,
        mut floor: impl FnMut(u64) -> Duration,
        mut subject: impl FnMut(u64) -> Duration,
    ) {
        self.measure(name, |count| (Some(floor(count)), subject(count)));
    }

    /// Measures single operations, each after 50 ms of idling, which makes some locks of the kernel
    /// slow.
    pub fn after_idling(
        &mut self,
        name: &str,
        mut floor: impl FnMut() -> Duration,
        mut subject: impl FnMut() -> Duration,
    ) {
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

    /// Measures an operation that has no floor.
    pub fn alone(&mut self, name: &str, mut subject: impl FnMut(u64) -> Duration) {
        self.measure(name, |count| (None, subject(count)));
    }

    /// `turn` runs a number of iterations of both sides and returns their times.
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
        // Empty if the command line filters this bench out.
        if !samples.is_empty() {
            self.rows.push(Row { name: name.to_owned(), samples });
        }
    }

    /// Prints the table.
    pub fn finish(self) {
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

/// The wall time of `count` operations.
pub fn timed(runtime: &Runtime, count: u64, mut operation: impl AsyncFnMut()) -> Duration {
    let start = Instant::now();
    runtime.block_on(async {
        for _ in 0..count {
            operation().await;
        }
    });
    start.elapsed()
}

/// The wall time of `count` posix_spawn(3) and waitpid(2) calls in each of `at_once` threads.
pub fn spawn_bare(program: &CStr, count: u64, at_once: usize) -> Duration {
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
