//! The generator of runs: a draft that the acts of a script shape until it is run.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::Act;
use super::descriptors::{Descriptor, Descriptors};
use super::inputs::{count, fd_number, path, pick};
use crate::container::fuzzing::{DefaultVariables, FdRole, Rlimit, StartRun, Strings, Times};
use crate::limits::Resource;

/// Shapes the working directory: without end for the argument 1, for a while for the argument 0.
const SHAPER: &str = "use POSIX; srand 1; my @n = qw(a b a/b b/a a/a /tmp/a); sub n { $n[rand @n] } \
    for (my $i = 0; $ARGV[0] || $i < 300; $i++) { my $k = int rand 9; \
    if ($k == 0) { mkdir n } elsif ($k == 1) { symlink n, n } elsif ($k == 2) { mkfifo n, 0700 } elsif ($k == 3) { unlink n } \
    elsif ($k == 4) { rename n, n } elsif ($k == 5) { rmdir n } elsif ($k == 6) { open my $f, '>', n and print $f 'x' } \
    elsif ($k == 7) { symlink '/proc/self/fd/3', n } else { chmod 0, n } }";

pub(super) struct Draft {
    run: StartRun,
    /// In the order of the run's roles.
    fds: Vec<Arc<OwnedFd>>,
    executable: Option<Arc<OwnedFd>>,
    gate: Option<Arc<OwnedFd>>,
}

impl Draft {
    /// Runs `true`.
    pub(super) fn new() -> Self {
        let (mut args, mut env) = (Strings::default(), Strings::default());
        args.push(&[b"true"]);
        env.push(&[b"PATH=/usr/bin:/bin"]);
        let run = StartRun {
            program: "true".into(),
            args,
            env,
            default_env: DefaultVariables::AllBut(Strings::default()),
            work_dir: None,
            fds: Vec::new(),
            terminal: None,
            announce: false,
            rlimits: Vec::new(),
            affinity: Vec::new(),
            times: Times { wall: Some(Duration::from_secs(5)), cpu: None, cpus: 1 },
            throttled: false,
            filter: Vec::new(),
        };
        Self { run, fds: Vec::new(), executable: None, gate: None }
    }

    /// Runs a program that does not end.
    pub(super) fn endless() -> Self {
        let mut draft = Self::new();
        draft.execute(&["sleep", "1000"]);
        draft.run.times.wall = None;
        draft
    }

    /// The request, with its descriptors.
    pub(super) fn finish(self) -> (StartRun, Vec<Arc<OwnedFd>>) {
        let Self { mut run, mut fds, executable, gate } = self;
        for (role, fd) in [(FdRole::Executable, executable), (FdRole::Gate, gate)] {
            run.fds.extend(fd.is_some().then_some(role));
            fds.extend(fd);
        }
        (run, fds)
    }

    pub(super) fn shape(&mut self, act: Act, [a, b, c]: [u8; 3], descriptors: &Descriptors) {
        match act {
            Act::Program => self.choose_program(a, b, c, descriptors),
            Act::Strings => self.add_strings(a, b, c),
            Act::Fds => {
                let step = i32::from(b < 0x80);
                for number in 0..count(a & 7).min(300) as i32 {
                    self.attach(fd_number(b).saturating_add(number * step), descriptors.any(c));
                }
            }
            Act::Terminal => {
                self.run.terminal = Some(fd_number(a));
                if b < 0x80 {
                    self.attach(fd_number(a), descriptors.get(Descriptor::Terminal));
                }
            }
            Act::Gate => {
                self.gate = (b & 0x40 == 0).then(|| descriptors.any(a));
                self.run.announce = b & 0x80 == 0;
            }
            Act::Limit => self.limit(a, b, c),
            Act::Affinity => {
                let first = pick([0, 1, 31, 63, 64, 1023, 8191, 65_535], a);
                self.run.affinity.extend((0..u32::from(b & 3)).map(|number| first + number));
            }
            Act::Times => {
                self.run.times = Times { wall: time(a), cpu: time(b), cpus: pick([0, 1, 2, u32::MAX], c) };
                self.run.throttled = c & 4 != 0;
            }
            Act::Filter => self.run.filter = filter(a, b, c),
            _ => self.run.work_dir = (c < 0xf0).then(|| path(a, b)),
        }
    }

    fn attach(&mut self, number: i32, fd: Arc<OwnedFd>) {
        self.run.fds.push(FdRole::Program(number));
        self.fds.push(fd);
    }

    fn choose_program(&mut self, a: u8, b: u8, c: u8, descriptors: &Descriptors) {
        match a % 12 {
            0 => self.execute(&["perl", "-e", SHAPER, "1"]),
            1 => self.execute(&["perl", "-e", SHAPER, "0"]),
            2 => self.execute(&["sh", "-c", "sleep 100 & (setsid sleep 100 &); exit 3"]),
            3 => self.execute(&["sh", "-c", "kill -SEGV $$"]),
            4 => self.execute(&["sh", "-c", "trap '' TERM; kill -9 -1; kill -STOP $$"]),
            5 => self.execute(&["true"]),
            6 => self.execute_attached(descriptors.get(Descriptor::Program)),
            7 => self.execute_attached(descriptors.any(b)),
            _ => self.run.program = path(b, c),
        }
    }

    /// A program by its name in the host's directories, with arguments.
    fn execute(&mut self, words: &[&str]) {
        self.run.program = words[0].into();
        self.run.args = Strings::default();
        words.iter().for_each(|word| self.run.args.push(&[word.as_bytes()]));
        self.executable = None;
    }

    fn execute_attached(&mut self, fd: Arc<OwnedFd>) {
        self.run.program = "attached".into();
        self.executable = Some(fd);
    }

    fn add_strings(&mut self, a: u8, b: u8, c: u8) {
        let size = pick([0, 1, 100, 4000, (128 << 10) - 1, 1 << 20], c);
        let strings = if a & 1 == 0 { &mut self.run.args } else { &mut self.run.env };
        let parts: [&[u8]; 2] = [if a & 2 == 0 { b"K=" } else { b"" }, &vec![b'x'; size]];
        let most = (8 << 20) / (size + 1);
        (0..count(b).min(most)).for_each(|_| strings.push(&parts));
    }

    fn limit(&mut self, a: u8, b: u8, c: u8) {
        const RESOURCES: [Resource; 7] = [
            Resource::CpuSeconds,
            Resource::FileSize,
            Resource::Data,
            Resource::Stack,
            Resource::Processes,
            Resource::OpenFiles,
            Resource::AddressSpace,
        ];
        let figure = |number: u8| pick([0, 1, 2, 16, 1 << 12, 1 << 20, 1 << 30, u64::MAX], number);
        self.run.rlimits.push(Rlimit { resource: pick(RESOURCES, a), soft: figure(b), hard: figure(c) }.into());
    }
}

fn time(number: u8) -> Option<Duration> {
    match number & 7 {
        0 => None,
        1 => Some(Duration::ZERO),
        2 => Some(Duration::from_millis(1)),
        3 => Some(Duration::from_millis(20)),
        4 => Some(Duration::from_secs(1)),
        5 => Some(Duration::from_secs(u64::MAX / 4)),
        6 => Some(Duration::from_secs(u64::MAX)),
        _ => Some(Duration::MAX),
    }
}

fn filter(a: u8, b: u8, c: u8) -> Vec<(u16, u8, u8, u32)> {
    const RETURN: u16 = 0x06;
    let answer = |value| vec![(RETURN, 0, 0, value)];
    match a & 7 {
        0 => answer(libc::SECCOMP_RET_ALLOW),
        1 => answer(libc::SECCOMP_RET_KILL_PROCESS),
        2 => answer(libc::SECCOMP_RET_ERRNO | u32::from(b)),
        3 => answer(libc::SECCOMP_RET_TRAP),
        4 => answer(libc::SECCOMP_RET_TRACE),
        5 => vec![(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW); 1 << (8 + (b & 15))],
        6 => vec![(u16::from(b), c, c, u32::MAX); 2],
        _ => Vec::new(),
    }
}
