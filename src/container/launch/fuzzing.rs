//! What the fuzz target of the init's commands does with its input: a real init, and requests as a host may send them.
//!
//! Invariant: every four bytes are an act and its three arguments; [`ACTS`] is what they come to. The init answers each
//! request, in order and in time, whatever programs make of its directory meanwhile. At a script's end it is as it was at
//! first, which its own fingerprint and its descriptors say, and is used for the next; where the script ends it, it says why.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::open;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::*;
use crate::command::Window;
use crate::fingerprint::Fingerprint;
use crate::limits::{GroupLimits, Resource, Rlimit};
use crate::pty::Pty;
use crate::report::Status;
use crate::wire::{
    CgroupVersion, Counter, FdRole, Figure, GroupFile, KillReason, MAX_FDS, OpenRequest, StartRun, Strings, Symlink,
    Times,
};

const ACTS: [Act; 24] = [
    Act::Open,
    Act::Open,
    Act::Symlink,
    Act::Delete,
    Act::Ping,
    Act::Run,
    Act::Run,
    Act::Run,
    Act::Program,
    Act::Program,
    Act::Strings,
    Act::Fds,
    Act::Terminal,
    Act::Gate,
    Act::Limit,
    Act::Affinity,
    Act::Times,
    Act::Filter,
    Act::Directory,
    Act::Kill,
    Act::Reset,
    Act::Fingerprint,
    Act::Settle,
    Act::Last,
];

#[derive(Clone, Copy)]
enum Act {
    Open,
    Symlink,
    Delete,
    Ping,
    /// Runs what the acts before it have made of the next run.
    Run,
    Program,
    Strings,
    Fds,
    Terminal,
    Gate,
    Limit,
    Affinity,
    Times,
    Filter,
    Directory,
    Kill,
    Reset,
    Fingerprint,
    /// Waits for the answers, or for a moment.
    Settle,
    /// What this init does not survive.
    Last,
}

const NAMES: [&str; 24] = [
    "a",
    "b",
    "a/b",
    "b/a",
    "a/a/a",
    "a/../b",
    "..",
    ".",
    "",
    "../usr",
    "a/",
    "a//b",
    "./a",
    "/",
    "/w",
    "/w/a",
    "/tmp/a",
    "/dev/null",
    "/proc/self/exe",
    "/proc/1/fd/3",
    "/usr/bin/env",
    "/none/a",
    "a\0b",
    "a\n\u{1b}b",
];

const COUNTS: [usize; 8] = [1, 0, 2, 3, 10, 253, 300, MAX_FDS];

const NUMBERS: [i32; 16] =
    [0, 1, 2, 3, 4, 10, 100, 255, 1023, 1024, 65_535, 1 << 20, i32::MAX - 1, i32::MAX, -1, i32::MIN];

const FIGURES: [u64; 8] = [0, 1, 2, 16, 1 << 12, 1 << 20, 1 << 30, u64::MAX];

/// Shapes the working directory, for ever or for a while.
const SHAPER: &str = "use POSIX; srand 1; my @n = qw(a b a/b b/a a/a /tmp/a); sub n { $n[rand @n] } \
    for (my $i = 0; $ARGV[0] || $i < 300; $i++) { my $k = int rand 9; \
    if ($k == 0) { mkdir n } elsif ($k == 1) { symlink n, n } elsif ($k == 2) { mkfifo n, 0700 } elsif ($k == 3) { unlink n } \
    elsif ($k == 4) { rename n, n } elsif ($k == 5) { rmdir n } elsif ($k == 6) { open my $f, '>', n and print $f 'x' } \
    elsif ($k == 7) { symlink '/proc/self/fd/3', n } else { chmod 0, n } }";

/// Longer than an answer takes.
const LONG: Duration = Duration::from_secs(30);

thread_local! {
    /// Kept for as long as the script before was one that it survives.
    static RIG: RefCell<Option<Rig>> = const { RefCell::new(None) };
}

/// Plays a script. What there was to see of the init, whose own coverage is out of sight, is told by a number.
pub fn commands(init_exe: &Path, script: &[u8], seen: &mut dyn FnMut(usize)) {
    RIG.with_borrow_mut(|rig| {
        *rig = rig.take().unwrap_or_else(|| Rig::new(init_exe)).play(script, seen);
    });
}

/// A reply that is owed.
#[derive(Debug)]
enum Owed {
    Done,
    DoneOrFailed,
    Opened(usize),
    Linked(usize),
    Fingerprint,
}

#[derive(Debug)]
struct Running {
    id: u64,
    awaits_fork: bool,
}

/// The next run.
struct Draft {
    execve: StartRun,
    fds: Vec<Arc<OwnedFd>>,
    executable: Option<Arc<OwnedFd>>,
    gate: Option<Arc<OwnedFd>>,
}

/// An init, and what it owes.
struct Rig {
    launched: Launched,
    pid: u32,
    last_id: u64,
    owed: VecDeque<(u64, Owed)>,
    running: Option<Running>,
    fingerprint: Option<Fingerprint>,
    first: Fingerprint,
    files: Option<usize>,
    things: [Arc<OwnedFd>; 8],
    _terminal: Pty,
    /// Last: the others are registered there.
    _runtime: tokio::runtime::Runtime,
}

const READER: usize = 2;
const TERMINAL: usize = 5;

impl Rig {
    fn new(init_exe: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let builder =
            ContainerBuilder { init_exe: init_exe.into(), start_timeout: LONG, ..ContainerBuilder::default() };
        let launched =
            runtime.block_on(launch(&builder)).expect("a container, whose init was built last by `cargo build`");
        let pid = launched.init.pid().expect("it lives");
        let (terminal, inside) = {
            let _runtime = runtime.enter();
            Pty::open(Window { rows: 24, columns: 80 }).expect("a terminal")
        };
        let open = |path: &str, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).expect("it is there");
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let things = [
            open("/dev/null", OFlag::O_RDWR),
            writer,
            reader,
            memory::sealed("file", b"17\nkey 18\n").expect("a memfd"),
            open("/bin/true", OFlag::O_RDONLY),
            inside,
            socket::pair().expect("a socket").0,
            open("/dev/zero", OFlag::O_PATH),
        ];
        let mut rig = Self {
            launched,
            pid,
            last_id: 0,
            owed: VecDeque::new(),
            running: None,
            fingerprint: None,
            first: Fingerprint::default(),
            files: None,
            things: things.map(Arc::new),
            _terminal: terminal,
            _runtime: runtime,
        };
        // The first one is told of its group.
        rig.run(Draft::new());
        rig.end_run(&mut |_| {});
        rig.ask(Request::Reset, Owed::Done);
        rig.ask(Request::Fingerprint, Owed::Fingerprint);
        rig.settle(&mut |_| {});
        rig.first = rig.fingerprint.take().expect("its fingerprint");
        rig.files = rig.count_files();
        rig
    }

    /// Gives the rig back where the init is as good as new.
    fn play(mut self, script: &[u8], seen: &mut dyn FnMut(usize)) -> Option<Self> {
        let mut draft = Draft::new();
        let mut has_joined_another = false;
        for act in script.chunks_exact(4).take(128) {
            let [kind, a, b, c] = [act[0], act[1], act[2], act[3]];
            match ACTS[usize::from(kind) % ACTS.len()] {
                Act::Open => {
                    let count = COUNTS[usize::from(c & 7)];
                    let files: Vec<_> = (0..count).map(|number| file(a.wrapping_add(number as u8), b, c)).collect();
                    self.ask(Request::Open(files), Owed::Opened(count));
                }
                Act::Symlink => {
                    let count = COUNTS[usize::from(c & 7)];
                    let link =
                        |number: usize| Symlink { target: name(b).into(), path: path(a.wrapping_add(number as u8), c) };
                    self.ask(Request::Symlink((0..count).map(link).collect()), Owed::Linked(count));
                }
                Act::Delete => self.ask(Request::Delete(path(a, b)), Owed::DoneOrFailed),
                Act::Ping => self.ask(Request::Ping, Owed::Done),
                Act::Run => {
                    self.end_run(seen);
                    self.run(std::mem::replace(&mut draft, Draft::new()));
                }
                Act::Kill if a < 0x80 => self.kill(self.running.as_ref().map_or(0, |run| run.id)),
                Act::Kill => self.kill(self.last_id.wrapping_sub(a.into())),
                Act::Reset => {
                    self.end_run(seen);
                    self.ask(Request::Reset, Owed::Done);
                }
                Act::Fingerprint => {
                    self.end_run(seen);
                    self.ask(Request::Fingerprint, Owed::Fingerprint);
                }
                Act::Settle if a < 0xf0 => self.settle(seen),
                Act::Settle => std::thread::sleep(Duration::from_millis(u64::from(b & 15))),
                Act::Last if a < 0xd0 => {}
                Act::Last if a < 0xe0 => {
                    self.end_run(seen);
                    self.join_another(b, c);
                    has_joined_another = true;
                }
                Act::Last => {
                    self.settle(seen);
                    drop(draft);
                    self.say_what_ends_it(b, c);
                    return None;
                }
                other => draft.shape(other, [a, b, c], &self.things),
            }
        }
        self.end_run(seen);
        self.ask(Request::Reset, Owed::Done);
        // What a reset took away is freed before the next answer.
        self.ask(Request::Fingerprint, Owed::Fingerprint);
        self.settle(seen);
        let fingerprint = self.fingerprint.take().expect("its fingerprint");
        assert_eq!(self.first.differences(&fingerprint), [""; 0]);
        drop(draft);
        if has_joined_another {
            self.say_what_ends_it(3, 0);
            return None;
        }
        assert_eq!(self.count_files(), self.files, "the init has other descriptors");
        Some(self)
    }

    /// As far as it may be seen.
    fn count_files(&self) -> Option<usize> {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map(Iterator::count).ok()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn ask(&mut self, request: Request, owed: Owed) {
        let id = self.next_id();
        self.owed.push_back((id, owed));
        self.send(id, &request, Vec::new());
    }

    fn kill(&mut self, id: u64) {
        self.send(0, &Request::Kill(id, KillReason::Request), Vec::new());
    }

    fn run(&mut self, Draft { mut execve, mut fds, executable, gate }: Draft) {
        let limits = GroupLimits { memory: Some(256 << 20), processes: Some(64), ..GroupLimits::default() };
        let prepared = self.launched.group.as_mut().map(|group| group.prepare(&limits));
        if let Some((joined, files)) = prepared.transpose().expect("a group").flatten() {
            self.send(0, &Request::Join(joined), files);
        }
        execve.announce = gate.is_some();
        for (role, fd) in [(FdRole::Executable, executable), (FdRole::Gate, gate)] {
            execve.fds.extend(fd.is_some().then_some(role));
            fds.extend(fd);
        }
        if fds.len() > MAX_FDS {
            return;
        }
        let id = self.next_id();
        self.running = Some(Running { id, awaits_fork: execve.announce });
        self.send(id, &Request::StartRun(execve), fds);
    }

    /// Sends, and listens while the init is not ready for it.
    fn send(&mut self, id: u64, request: &Request, fds: Vec<Arc<OwnedFd>>) {
        let Ok(datagrams) = wire::encode(id, request, fds) else {
            self.owed.retain(|(owed, _)| *owed != id);
            self.running.take_if(|run| run.id == id);
            return;
        };
        let end = Instant::now() + LONG;
        for datagram in datagrams {
            while let Err(error) = datagram.send(&self.launched.socket, false) {
                match error.raw_os_error() {
                    Some(libc::EAGAIN) => {}
                    // Too many of this user's are on their way.
                    Some(libc::ETOOMANYREFS) => std::thread::sleep(Duration::from_millis(1)),
                    _ => self.mourn(&format!("sending: {error}")),
                }
                assert!(Instant::now() < end, "it does not receive");
                becomes_ready(&self.launched.socket, PollFlags::POLLOUT | PollFlags::POLLIN, 100);
                self.receive(&mut |_| {});
            }
        }
    }

    /// Takes what has been answered.
    fn receive(&mut self, seen: &mut dyn FnMut(usize)) {
        loop {
            match self.launched.decoder.receive::<Reply>(self.launched.socket.as_fd(), false) {
                Ok(Some(message)) => self.take(message, seen),
                Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) => self.mourn("it closed"),
                Err(broken) => self.mourn(&broken.to_string()),
            }
        }
    }

    fn take(&mut self, Frame { id, body, fds }: Frame<Reply>, seen: &mut dyn FnMut(usize)) {
        let is_running = self.running.is_some();
        let mut see = |what: usize| seen(what << 1 | usize::from(is_running));
        if let Some(run) = self.running.as_mut().filter(|run| run.id == id) {
            match body {
                Reply::Forked => {
                    assert!(
                        std::mem::take(&mut run.awaits_fork) && fds.len() == 1,
                        "it named a process: {}",
                        fds.len()
                    );
                }
                Reply::Ended(measured) => {
                    assert!(measured.status.is_end() && fds.is_empty(), "{measured:?}");
                    see(0x100 | Status::from(measured.status).shell_code() as usize & 0xff);
                    self.is_alone();
                }
                Reply::Failed(failure) => {
                    see(0x200 | failure.step as usize);
                    see(0x300 | failure.errno as usize & 0xff);
                    self.is_alone();
                }
                other => panic!("a run's answer: {other:?}"),
            }
            return;
        }
        let Some((owed, expected)) = self.owed.pop_front() else { panic!("nobody had asked: {id} {body:?}") };
        assert_eq!(owed, id, "out of order: {body:?} where {expected:?} was owed");
        match (expected, body) {
            (Owed::Done | Owed::DoneOrFailed, Reply::Done) => {}
            (Owed::DoneOrFailed, Reply::Failed(failure)) => see(0x400 | failure.errno as usize & 0xff),
            (Owed::Opened(count), Reply::Opened(results)) => {
                assert_eq!(results.len(), count);
                assert_eq!(results.iter().filter(|result| result.is_none()).count(), fds.len());
                let is_regular = |fd: &OwnedFd| {
                    fstat(fd).expect("it is open").st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
                };
                assert!(fds.iter().all(is_regular));
                results.iter().flatten().for_each(|failure| {
                    see(0x500 | failure.errno as usize & 0xff);
                    see(0x600 | failure.step as usize);
                });
            }
            (Owed::Opened(_), Reply::Failed(Failure { step: Step::Send, .. })) => {}
            (Owed::Linked(count), Reply::Linked(results)) => {
                assert_eq!(results.len(), count);
                results.iter().flatten().for_each(|failure| see(0x700 | failure.errno as usize & 0xff));
            }
            (Owed::Fingerprint, Reply::Fingerprint(it)) => self.fingerprint = Some(it.into()),
            (expected, body) => panic!("{body:?} where {expected:?} was owed"),
        }
    }

    /// The run is over: nobody of it is alive.
    fn is_alone(&mut self) {
        self.running = None;
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        // A kernel may not list them.
        let children = fs::read_to_string(path).unwrap_or_default();
        assert_eq!(children, "", "a run is over, and somebody lives");
    }

    /// Waits until nothing is owed but the end of a run.
    fn settle(&mut self, seen: &mut dyn FnMut(usize)) {
        self.wait_until("everything is answered", seen, |rig| rig.owed.is_empty());
    }

    fn end_run(&mut self, seen: &mut dyn FnMut(usize)) {
        self.settle(seen);
        if let Some(id) = self.running.as_ref().map(|run| run.id) {
            self.kill(id);
            self.wait_until("a run ends that was killed", seen, |rig| rig.running.is_none());
        }
    }

    fn wait_until(&mut self, what: &str, seen: &mut dyn FnMut(usize), is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !is_so(self) {
            if Instant::now() > end {
                let kernel = fs::read_to_string(format!("/proc/{}/stack", self.pid)).unwrap_or_default();
                panic!("never: {what}; it owes {:?} and {:?}, and is at {kernel}", self.owed, self.running);
            }
            becomes_ready(&self.launched.socket, PollFlags::POLLIN, 100);
            self.receive(seen);
        }
    }

    /// Another group's files, which may be anything that does not block.
    fn join_another(&mut self, thing: u8, count: u8) {
        const FILES: [usize; 4] = [0, 3, 4, 7];
        let file = |number: u8| Arc::clone(&self.things[FILES[usize::from(thing.wrapping_add(number) & 3)]]);
        let fds: Vec<_> = (0..count & 3).map(file).collect();
        let figures = [Figure::CpuTime, Figure::MemoryNow, Figure::MemoryPeakSinceReset, Figure::Throttled];
        let file = |(number, _): (usize, _)| match usize::from(thing >> 4) + number {
            0 => GroupFile::Tasks,
            1 => GroupFile::Directory,
            2 => GroupFile::Rate { none: "-1".into() },
            other => GroupFile::Counter(Counter {
                figure: figures[other % 4],
                key: ["", "key", "none"][other % 3].into(),
                unit: [1, u32::MAX][other % 2],
            }),
        };
        let files = fds.iter().enumerate().map(file).collect();
        self.send(0, &Request::Join(wire::GroupFiles { version: CgroupVersion::V1, files }), fds);
    }

    /// A request out of place, what is none, or the end of the conversation: the init says why it ends, and does.
    fn say_what_ends_it(mut self, how: u8, detail: u8) {
        let group = wire::GroupFiles { version: CgroupVersion::V2, files: vec![GroupFile::Tasks] };
        let request = match how & 3 {
            0 => Some(Request::Start { cgroup_namespace: detail & 1 == 0 }),
            1 => Some(Request::Join(group)),
            2 => {
                socket::send(&self.launched.socket, &[detail | 0x80, 0x92, 1], &[], true).expect("it listens");
                None
            }
            _ => {
                rustix::net::shutdown(&self.launched.socket, rustix::net::Shutdown::Both).expect("a socket");
                None
            }
        };
        if let Some(request) = request {
            self.send(0, &request, Vec::new());
        }
        let expected = i32::from(how & 3 < 3);
        let (code, said) = self.end();
        // The fuzzer may have had something to say first.
        assert_eq!((code, said.contains("cellblock-init: ")), (expected, expected == 1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        // Nobody of it has one of the descriptors that its programs had.
        let reader = Arc::clone(&self.things[READER]);
        drop(self);
        assert!(becomes_ready(&reader, PollFlags::POLLIN, 10_000), "somebody of an ended container is alive");
    }

    /// How it ended, and what it had said.
    fn end(&mut self) -> (i32, String) {
        let end = Instant::now() + LONG;
        let code = loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
            match waitid(Id::Pid(nix::unistd::Pid::from_raw(self.pid as i32)), flags) {
                Ok(WaitStatus::Exited(_, code)) => break code,
                Ok(WaitStatus::StillAlive) => assert!(Instant::now() < end, "it does not end"),
                other => panic!("the init ended otherwise: {other:?}: {}", self.words()),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        (code, self.words())
    }

    fn words(&mut self) -> String {
        let mut said = Vec::new();
        // It does not block, and may be closed.
        self.launched.stderr.read_to_end(&mut said).ok();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The init has ended, and should not have.
    fn mourn(&mut self, how: &str) -> ! {
        let (code, said) = self.end();
        panic!("{how}; the init exited with {code}: {said}")
    }
}

impl Drop for Rig {
    /// At once: this process may be about to end.
    fn drop(&mut self) {
        self.launched.init.end_here().expect("it is a child");
        let Some(group) = self.launched.group.take() else { return };
        for _ in 0..1000 {
            if group.remove().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Draft {
    fn new() -> Self {
        let (mut args, mut env) = (Strings::default(), Strings::default());
        args.push(&[b"true"]);
        env.push(&[b"PATH=/usr/bin:/bin"]);
        let times = Times { wall: Some(Duration::from_secs(5)), cpu: None, cpus: 1 };
        let execve = StartRun {
            program: "true".into(),
            args,
            env,
            work_dir: None,
            fds: Vec::new(),
            terminal: None,
            announce: false,
            rlimits: Vec::new(),
            affinity: Vec::new(),
            times,
            throttled: false,
            filter: Vec::new(),
        };
        Self { execve, fds: Vec::new(), executable: None, gate: None }
    }

    /// A program by its name in the host's directories, with arguments.
    fn program(&mut self, words: &[&str]) {
        self.execve.program = words[0].into();
        self.execve.args = Strings::default();
        words.iter().for_each(|word| self.execve.args.push(&[word.as_bytes()]));
        self.executable = None;
    }

    fn attached(&mut self, fd: &Arc<OwnedFd>) {
        self.execve.program = "attached".into();
        self.executable = Some(Arc::clone(fd));
    }

    fn shape(&mut self, act: Act, [a, b, c]: [u8; 3], things: &[Arc<OwnedFd>]) {
        let thing = |number: u8| &things[usize::from(number) % things.len()];
        match act {
            Act::Program => match a % 12 {
                0 => self.program(&["perl", "-e", SHAPER, "1"]),
                1 => self.program(&["perl", "-e", SHAPER, "0"]),
                2 => self.program(&["sh", "-c", "sleep 100 & (setsid sleep 100 &); exit 3"]),
                3 => self.program(&["sh", "-c", "kill -SEGV $$"]),
                4 => self.program(&["sh", "-c", "trap '' TERM; kill -9 -1; kill -STOP $$"]),
                5 => self.program(&["true"]),
                6 => self.attached(thing(4)),
                7 => self.attached(thing(b)),
                _ => self.execve.program = path(b, c),
            },
            Act::Strings => {
                const SIZES: [usize; 6] = [0, 1, 100, 4000, (128 << 10) - 1, 1 << 20];
                let size = SIZES[usize::from(c) % SIZES.len()];
                let strings = if a & 1 == 0 { &mut self.execve.args } else { &mut self.execve.env };
                let parts: [&[u8]; 2] = [if a & 2 == 0 { b"K=" } else { b"" }, &vec![b'x'; size]];
                let most = (8 << 20) / (size + 1);
                (0..COUNTS[usize::from(b & 7)].min(most)).for_each(|_| strings.push(&parts));
            }
            Act::Fds => {
                let step = i32::from(b < 0x80);
                let first = NUMBERS[usize::from(b) % NUMBERS.len()];
                for number in 0..COUNTS[usize::from(a & 7)].min(300) as i32 {
                    self.execve.fds.push(FdRole::Program(first.saturating_add(number * step)));
                    self.fds.push(Arc::clone(thing(c)));
                }
            }
            Act::Terminal => {
                let number = NUMBERS[usize::from(a) % NUMBERS.len()];
                self.execve.terminal = Some(number);
                if b < 0x80 {
                    self.execve.fds.push(FdRole::Program(number));
                    self.fds.push(Arc::clone(&things[TERMINAL]));
                }
            }
            Act::Gate => self.gate = Some(Arc::clone(thing(a))),
            Act::Limit => {
                const RESOURCES: [Resource; 7] = [
                    Resource::CpuSeconds,
                    Resource::FileSize,
                    Resource::Data,
                    Resource::Stack,
                    Resource::Processes,
                    Resource::OpenFiles,
                    Resource::AddressSpace,
                ];
                let figure = |number: u8| FIGURES[usize::from(number & 7)];
                let resource = RESOURCES[usize::from(a) % RESOURCES.len()];
                self.execve.rlimits.push(Rlimit { resource, soft: figure(b), hard: figure(c) }.into());
            }
            Act::Affinity => {
                const CPUS: [u32; 8] = [0, 1, 31, 63, 64, 1023, 8191, 65_535];
                let first = CPUS[usize::from(a & 7)];
                self.execve.affinity.extend((0..u32::from(b & 3)).map(|number| first + number));
            }
            Act::Times => {
                let time = |number: u8| match number & 7 {
                    0 => None,
                    1 => Some(Duration::ZERO),
                    2 => Some(Duration::from_millis(1)),
                    3 => Some(Duration::from_millis(20)),
                    4 => Some(Duration::from_secs(1)),
                    5 => Some(Duration::from_secs(u64::MAX / 4)),
                    6 => Some(Duration::from_secs(u64::MAX)),
                    _ => Some(Duration::MAX),
                };
                self.execve.times =
                    Times { wall: time(a), cpu: time(b), cpus: [0, 1, 2, u32::MAX][usize::from(c & 3)] };
                self.execve.throttled = c & 4 != 0;
            }
            Act::Filter => {
                let answer = |value| vec![(0x06, 0, 0, value)];
                self.execve.filter = match a & 7 {
                    0 => answer(libc::SECCOMP_RET_ALLOW),
                    1 => answer(libc::SECCOMP_RET_KILL_PROCESS),
                    2 => answer(libc::SECCOMP_RET_ERRNO | u32::from(b)),
                    3 => answer(libc::SECCOMP_RET_TRAP),
                    4 => answer(libc::SECCOMP_RET_TRACE),
                    5 => vec![(0x06, 0, 0, libc::SECCOMP_RET_ALLOW); 1 << (8 + (b & 15))],
                    6 => vec![(u16::from(b), c, c, u32::MAX); 2],
                    _ => Vec::new(),
                };
            }
            _ => self.execve.work_dir = (c < 0xf0).then(|| path(a, b)),
        }
    }
}

/// Whether that is so within this time. The fuzzer has signals of its own.
fn becomes_ready(fd: impl AsFd, events: PollFlags, millis: u16) -> bool {
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), events)], millis) {
            Err(Errno::EINTR) => {}
            ready => return ready.expect("a wait") > 0,
        }
    }
}

fn name(number: u8) -> &'static str {
    NAMES[usize::from(number) % NAMES.len()]
}

/// One of the names, or a long one.
fn path(number: u8, length: u8) -> PathBuf {
    match length {
        0xf8.. => "x/".repeat(3000).into(),
        0xf0.. => "x".repeat(256).into(),
        _ => name(number).into(),
    }
}

fn file(number: u8, flags: u8, mode: u8) -> OpenRequest {
    let set = [libc::O_CREAT, libc::O_EXCL, libc::O_TRUNC, libc::O_APPEND];
    let set = set.iter().enumerate().filter(|(bit, _)| flags & (4 << bit) != 0).fold(0, |all, (_, flag)| all | flag);
    let access = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY][usize::from(flags & 3)];
    OpenRequest {
        path: path(number, mode),
        flags: access | set,
        mode: [0o644, 0, 0o7777, u32::MAX][usize::from(mode >> 4 & 3)],
        parents: flags & 0x80 != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the target begins with: a run of each kind beside the files, and each end.
    fn seeds() -> [(&'static str, Vec<u8>); 7] {
        const fn act(act: Act, a: u8, b: u8, c: u8) -> [u8; 4] {
            let mut kind = 0;
            while ACTS[kind] as u8 != act as u8 {
                kind += 1;
            }
            [kind as u8, a, b, c]
        }
        const RUN: [u8; 4] = act(Act::Run, 0, 0, 0);
        let files = [
            act(Act::Program, 0, 0, 0),
            RUN,
            act(Act::Open, 0, 0x86, 3),
            act(Act::Symlink, 0, 18, 3),
            act(Act::Delete, 2, 0, 0),
            act(Act::Open, 0, 0, 5),
            act(Act::Settle, 0, 0, 0),
            act(Act::Kill, 0, 0, 0),
            act(Act::Reset, 0, 0, 0),
            act(Act::Fingerprint, 0, 0, 0),
            act(Act::Ping, 0, 0, 0),
        ];
        let runs = (0..12).flat_map(|kind| [act(Act::Program, kind, 18, 0), act(Act::Fds, 2, 3, 1), RUN]);
        let limited = [
            act(Act::Limit, 6, 4, 4),
            act(Act::Affinity, 0, 1, 0),
            act(Act::Times, 4, 4, 1),
            act(Act::Strings, 1, 4, 2),
            act(Act::Terminal, 0, 0, 0),
            act(Act::Directory, 14, 0, 0),
            RUN,
            act(Act::Gate, 2, 0, 0),
            RUN,
            act(Act::Filter, 2, 1, 0),
            RUN,
        ];
        let end = |how| [act(Act::Program, 0, 0, 0), RUN, act(Act::Last, 0xff, how, 0)].concat();
        [
            ("files", files.concat()),
            ("runs", runs.collect::<Vec<_>>().concat()),
            ("limited", limited.concat()),
            ("far_descriptors", [act(Act::Fds, 0, 13, 0), RUN].concat()),
            ("another_group", [act(Act::Last, 0xd0, 0x22, 3), RUN].concat()),
            ("out_of_place", end(0)),
            ("closed", end(3)),
        ]
    }

    #[test]
    fn the_seeds_are_played() {
        let own = std::env::current_exe().unwrap();
        let init = own.ancestors().nth(2).unwrap().join("cellblock-init");
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/commands");
        for (name, script) in seeds() {
            if std::env::var_os("CELLBLOCK_WRITE_SEEDS").is_some() {
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(name), &script).unwrap();
            }
            if init.exists() {
                commands(&init, &script, &mut |_| {});
            } else {
                println!("skipped: {} is not built", init.display());
            }
        }
    }
}
