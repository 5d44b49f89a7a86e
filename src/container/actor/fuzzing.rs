//! What the fuzz target of the actor does with its input: callers of the real actor, and a compromised init that answers.
//!
//! Invariant: every four bytes are an act and its three arguments; [`ACTS`] is what they come to. Most answers fit their
//! requests or would fit another. Whatever the init says, every call ends, an opened file is a regular one, nothing stays
//! open, and once something does not fit the container is dead, for one reason that every call gives from then on.

use std::collections::BTreeSet;
use std::fs::File;
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::Poll;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::Mode;
use nix::unistd::{pipe2, read};
use tokio::time::Instant;

use super::*;
use crate::command::{Command, Stdio};
use crate::container::{Container, OpenFile};
use crate::error::{ErrorKind, Failure, Step, printable};
use crate::limits::{LeaseLimits, Limits};
use crate::report::Report;
use crate::sys::process::Pidfd;
use crate::sys::{memory, socket};
use crate::wire::{
    self, CgroupVersion, GroupFigures, KillReason, MAX_FDS, Measurement, Peer, RawFingerprint, WaitStatus,
};

const ACTS: [Act; 16] = [
    Act::Call,
    Act::Call,
    Act::Call,
    Act::Drop,
    Act::Turns,
    Act::Turns,
    Act::Receive,
    Act::Receive,
    Act::Answer,
    Act::Answer,
    Act::Answer,
    Act::Answer,
    Act::Garble,
    Act::Part,
    Act::Pause,
    Act::Close,
];

#[derive(Clone, Copy)]
enum Act {
    /// A caller: what it asks for, and how many.
    Call,
    /// A caller goes.
    Drop,
    /// The actor gets on.
    Turns,
    /// The init: receives a request.
    Receive,
    /// Answers: whose request, what, and what comes along.
    Answer,
    /// A reply in which one byte is another.
    Garble,
    /// A datagram of a message that has more of them.
    Part,
    Pause,
    Close,
}

const COUNTS: [usize; 8] = [1, 2, 3, 0, 7, 300, MAX_FDS, MAX_FDS + 1];

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Plays a script. Its first byte says what patience the actor has.
pub fn actor(script: &[u8]) {
    let before = descriptors();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe");
    // Each thread may have one, and a script ends what it began.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play(script, writer));
    drop(runtime);
    // A process that another thread has just started has them until it has executed.
    while poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], 10_000_u16) == Err(Errno::EINTR) {}
    assert_eq!(read(&reader, &mut [0]), Ok(0), "a descriptor is still open");
    drop(reader);
    // The tests of this crate open others meanwhile.
    if cfg!(fuzzing) {
        assert_eq!(descriptors(), before, "a descriptor is still open");
    }
}

fn descriptors() -> BTreeSet<std::ffi::OsString> {
    let own = std::fs::read_dir("/proc/self/fd").expect("a proc");
    own.map(|entry| entry.expect("an entry").file_name()).collect()
}

async fn play(script: &[u8], writer: OwnedFd) {
    let Some((&first, script)) = script.split_first() else { return };
    let is_patient = first < 0xf0;
    let patience = if is_patient { LONG } else { Duration::from_millis(u64::from(first & 3)) };
    let (host, theirs) = socket::pair().expect("a socket");
    let (mailbox, messages) = mpsc::channel(4);
    let shared = Arc::new(Shared::default());
    let record = RecordDeath(Arc::clone(&shared));
    let launched = Launched::without_an_init(host).expect("a process in its place");
    tokio::spawn(Actor::serve_to_the_end(launched, messages, record, patience));
    let container = Container { mailbox, shared, made: ContainerInfo::for_tests(), terms: LeaseLimits::default() };

    let mut init = Init::new(theirs, writer);
    let mut callers = Callers { container: container.clone(), waiting: Vec::new(), ends: Vec::new() };
    if !is_patient {
        init.standing = Standing::Unknown;
    }
    for act in script.chunks_exact(4).take(256) {
        let [kind, a, b, c] = [act[0], act[1], act[2], act[3]];
        match ACTS[usize::from(kind) % ACTS.len()] {
            Act::Call => callers.call(a, b),
            Act::Drop => {
                callers.drop_one(a);
                init.may_be_told_to_kill();
            }
            Act::Turns => turns(1 + a % 4).await,
            Act::Receive => drop(init.receive()),
            Act::Answer => init.answer(a, b, c),
            Act::Garble => init.garble(a, b, c),
            Act::Part => init.part(),
            // Scarcely: it takes time.
            Act::Pause if a >= 0xf0 => tokio::time::sleep(Duration::from_millis(u64::from(b & 3))).await,
            Act::Pause => {}
            Act::Close => init.close(),
        }
        if callers.poll().await {
            init.may_be_told_to_kill();
        }
    }

    match init.standing {
        Standing::Well => {
            wait_until("every call is answered", async || {
                while init.receive() {}
                init.answer_all();
                callers.poll().await;
                callers.waiting.is_empty()
            })
            .await;
            callers.call(PING, 0);
            wait_until("a container whose init has kept to the protocol serves", async || {
                init.receive();
                init.answer_all();
                callers.poll().await;
                callers.waiting.is_empty()
            })
            .await;
            assert!(callers.ends.pop().is_some_and(|ping| ping.is_none()), "the last ping");
            container.destroy().await;
        }
        // The occasion at which the actor sees at the latest what does not fit.
        Standing::Misfit => {
            callers.call(PING, 0);
            wait_until("a misfit ends the container", async || {
                while init.receive() {}
                callers.poll().await;
                container.is_dead()
            })
            .await;
        }
        Standing::Unknown => {
            init.close();
            // Where its own end is under way to the host it is still open, and it is only silent.
            if init.has_sent_itself {
                container.destroy().await;
            }
        }
    }
    let death = tokio::time::timeout(LONG, container.death()).await.expect("it ends");
    wait_until("every call ends", async || {
        callers.poll().await;
        callers.waiting.is_empty()
    })
    .await;
    if init.standing == Standing::Misfit {
        assert_eq!(death.kind(), ErrorKind::Lost);
    }
    for kind in 0..KINDS {
        callers.call(kind, 1);
    }
    callers.poll().await;
    assert!(callers.waiting.is_empty(), "a dead container answers at once");
    let late = callers.ends.split_off(callers.ends.len() - usize::from(KINDS));
    assert!(
        late.iter().all(|end| end.as_ref().is_some_and(|error| error.to_string() == death.to_string())),
        "{late:?}"
    );
    for error in callers.ends.iter().flatten() {
        let said = error.to_string();
        assert!(said.chars().all(|c| c == printable(c)), "{said:?}");
        let is_of_death = matches!(error.kind(), ErrorKind::Lost | ErrorKind::Destroyed);
        assert!(!is_of_death || said == death.to_string(), "two deaths: {said} and {death}");
    }
}

/// Lets the other tasks go on, the actor among them.
async fn turns(count: u8) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// How a call has ended, where it was a failure.
type End = Option<Error>;

struct Call {
    future: Pin<Box<dyn Future<Output = End>>>,
    /// Whether its end has the actor kill a run.
    kills: bool,
}

/// Whoever uses the container.
struct Callers {
    container: Container,
    waiting: Vec<Call>,
    ends: Vec<End>,
}

const KINDS: u8 = 14;
const PING: u8 = 0;

impl Callers {
    fn call(&mut self, kind: u8, count: u8) {
        let container = self.container.clone();
        let count = COUNTS[usize::from(count) % COUNTS.len()];
        let paths = move || (0..count).map(|number| format!("f{number}"));
        let files = move || paths().map(OpenFile::read);
        let mut command = Command::new("/p");
        command.limits(Limits::new().wall_time(LONG)).stdout(Stdio::piped());
        let future: Pin<Box<dyn Future<Output = End>>> = match kind % KINDS {
            PING => Box::pin(async move { container.ping(LONG).await.err() }),
            1 => Box::pin(async move { container.delete("f").await.err() }),
            2 => Box::pin(async move { looked_at(container.open(files()).await) }),
            3 => Box::pin(async move { container.symlink(paths().map(|path| ("t", path))).await.err() }),
            4 => Box::pin(async move { container.reset().await.err() }),
            5 => Box::pin(async move { container.fingerprint().await.map(|it| it.differences(&it)).err() }),
            6 => Box::pin(async move { container.read("f", 100).await.err() }),
            7 => Box::pin(async move { container.write("f", *b"data", 0o600).await.err() }),
            8 => Box::pin(async move { told(container.run(&command).await) }),
            9 => Box::pin(async move { told(container.output(&command).await.map(|output| output.report)) }),
            10 => {
                command.pid_hook(|pid, _| async move { panic!("{pid} is shown, and the init has no child") });
                Box::pin(async move { told(container.run(&command).await) })
            }
            11 => Box::pin(async move {
                match container.spawn(command.stdin(Stdio::piped())).await {
                    Ok(mut process) => told(process.wait().await),
                    Err(error) => Some(error),
                }
            }),
            12 => Box::pin(async move {
                match container.spawn(&command).await {
                    Ok(mut process) => told(process.kill().await),
                    Err(error) => Some(error),
                }
            }),
            _ => Box::pin(async move { container.spawn(&command).await.err() }),
        };
        self.waiting.push(Call { future, kills: kind % KINDS >= 12 });
    }

    fn drop_one(&mut self, which: u8) {
        if !self.waiting.is_empty() {
            self.waiting.swap_remove(usize::from(which) % self.waiting.len());
        }
    }

    /// Polls everybody once. Whether one may have killed a run.
    async fn poll(&mut self) -> bool {
        let (waiting, ends) = (&mut self.waiting, &mut self.ends);
        poll_fn(|context| {
            let kills = waiting.iter().any(|call| call.kills);
            waiting.retain_mut(|call| match call.future.as_mut().poll(context) {
                Poll::Ready(end) => {
                    ends.push(end);
                    false
                }
                Poll::Pending => true,
            });
            Poll::Ready(kills)
        })
        .await
    }
}

/// Uses all that a report has to say.
fn told(result: Result<Report>) -> End {
    match result {
        Ok(report) => {
            let _said = (report.to_string(), report.verdict(), report.status.shell_code(), format!("{report:?}"));
            None
        }
        Err(error) => Some(error),
    }
}

fn looked_at(result: Result<Vec<Result<File>>>) -> End {
    match result {
        Ok(files) => {
            for file in files.iter().flatten() {
                assert!(file.metadata().expect("an open file").is_file());
                assert!(!is_only_a_path(file), "it can be neither read nor written");
            }
            None
        }
        Err(error) => Some(error),
    }
}

fn is_only_a_path(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() != 0)
}

/// What becomes of the container by what its init has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It goes on.
    Well,
    /// It ends.
    Misfit,
    /// Either.
    Unknown,
}

/// The init, which is nobody's friend.
struct Init {
    socket: Option<OwnedFd>,
    decoder: Decoder,
    owed: Vec<Frame<Request>>,
    answered: Vec<u64>,
    standing: Standing,
    /// Whether it has named a process, and whether a run's caller may have gone: then nobody looks which that is.
    has_named: bool,
    may_be_killing: bool,
    has_sent_itself: bool,
    things: [Arc<OwnedFd>; 8],
}

/// How many of the things are regular files, at first; and which one is what.
const REGULAR: usize = 2;
const WRITER: usize = 2;
const PIDFD: usize = 5;
const OWN_END: usize = 6;

impl Init {
    fn new(socket: OwnedFd, writer: OwnedFd) -> Self {
        let open = |path: &str, flags| open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).expect("it is there");
        let things = [
            memory::sealed("file", b"content").expect("a memfd"),
            open("/proc/self/exe", OFlag::O_RDONLY),
            writer,
            open("/", OFlag::O_DIRECTORY),
            open("/proc/self/exe", OFlag::O_PATH),
            Pidfd::of_self().expect("a pidfd"),
            socket.try_clone().expect("a descriptor"),
            open("/dev/null", OFlag::O_RDWR),
        ];
        Self {
            socket: Some(socket),
            decoder: Decoder::new(Peer::Host),
            owed: Vec::new(),
            answered: Vec::new(),
            standing: Standing::Well,
            has_named: false,
            may_be_killing: false,
            has_sent_itself: false,
            things: things.map(Arc::new),
        }
    }

    fn close(&mut self) {
        self.socket = None;
        self.standing = Standing::Unknown;
        // One of them is the same end.
        self.things = std::array::from_fn(|_| Arc::clone(&self.things[WRITER]));
    }

    fn may_be_told_to_kill(&mut self) {
        self.may_be_killing = true;
        // Where that is still under way.
        if self.has_named {
            self.standing = Standing::Unknown;
        }
    }

    /// Whether something was there.
    fn receive(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        match self.decoder.receive::<Request>(socket, false) {
            Ok(Some(Frame { body: Request::Kill(..), .. })) => true,
            // Its descriptors are closed, as an init's are once the child has its own.
            Ok(Some(frame)) => {
                self.owed.push(Frame { fds: Vec::new(), ..frame });
                true
            }
            Ok(None) => false,
            Err(wire::Broken::Io(_)) => false,
            Err(broken) => panic!("the host sent {broken}"),
        }
    }

    /// Keeps to the protocol.
    fn answer_all(&mut self) {
        while !self.owed.is_empty() {
            let before = self.owed.len();
            self.answer(0, 0, 0);
            assert!(self.owed.len() < before, "an answer that fits can be sent");
        }
    }

    fn answer(&mut self, whose: u8, kind: u8, detail: u8) {
        let (id, place) = self.find(whose);
        let request = place.map(|place| &self.owed[place].body);
        let reply = reply(request, kind, detail);
        let things = self.things_for(&reply, detail);
        let fds = things.iter().map(|&thing| Arc::clone(&self.things[thing])).collect();
        let becomes = match request {
            Some(request) => self.judge(request, &reply, &things),
            None => Standing::Misfit,
        };
        let is_forked = matches!(reply, Reply::Forked);
        if !self.send(id, &reply, fds) {
            return;
        }
        self.has_named |= is_forked;
        self.has_sent_itself |= things.contains(&OWN_END);
        if let (Some(place), false) = (place, is_forked) {
            self.answered.push(self.owed.swap_remove(place).id);
        }
        if self.standing == Standing::Well {
            self.standing = becomes;
        }
    }

    /// Whose answer it is, and where that stands among those that are owed one.
    fn find(&self, whose: u8) -> (u64, Option<usize>) {
        let last = self.owed.iter().map(|frame| frame.id).chain(self.answered.iter().copied()).max().unwrap_or(0);
        match whose {
            0xf0..=0xf3 => (0, None),
            // It may have been asked for and not yet received; then the answer may fit.
            0xf4..=0xf7 => (last + 1000, None),
            0xf8..=0xfb => (u64::MAX, None),
            0xfc.. => (self.answered.last().copied().unwrap_or(0), None),
            _ if self.owed.is_empty() => (last + 1000, None),
            _ => {
                let place = usize::from(whose) % self.owed.len();
                (self.owed[place].id, Some(place))
            }
        }
    }

    /// As many as the reply names, but for a few details.
    fn things_for(&self, reply: &Reply, detail: u8) -> Vec<usize> {
        let named = match reply {
            Reply::Opened(results) => results.iter().filter(|result| result.is_none()).count(),
            Reply::Forked | Reply::Started => 1,
            _ => 0,
        };
        let usual = if matches!(reply, Reply::Forked | Reply::Started) { PIDFD } else { 0 };
        let mut things = vec![usual; named];
        match detail >> 3 {
            1 => things.push(usual),
            2 => drop(things.pop()),
            3 => things.extend([usual; 253]),
            place @ 8..16 => {
                if let Some(last) = things.last_mut() {
                    *last = usize::from(place) % self.things.len();
                }
            }
            _ => {}
        }
        things
    }

    fn judge(&self, request: &Request, reply: &Reply, things: &[usize]) -> Standing {
        let fits = match (request, reply) {
            // Nobody may be waiting for it any more.
            (Request::StartRun(execve), Reply::Forked) if things.len() == 1 => {
                let is_known = execve.announce && !self.may_be_killing;
                return if is_known { Standing::Misfit } else { Standing::Unknown };
            }
            (Request::Open(files), Reply::Opened(results)) => {
                let opened = results.iter().filter(|result| result.is_none()).count();
                let are_regular = things.iter().all(|&thing| thing < REGULAR);
                files.len() == results.len() && opened == things.len() && are_regular
            }
            _ if !things.is_empty() => false,
            (Request::Ping | Request::Delete(_) | Request::Reset, Reply::Done) => true,
            (Request::Delete(_) | Request::Open(_) | Request::StartRun(_), Reply::Failed(_)) => true,
            (Request::Fingerprint, Reply::Fingerprint(_) | Reply::Failed(_)) => true,
            (Request::Symlink(links), Reply::Linked(results)) => links.len() == results.len(),
            (Request::StartRun(_), Reply::Ended(measured)) => measured.status.is_end(),
            _ => false,
        };
        if fits { Standing::Well } else { Standing::Misfit }
    }

    /// False where nothing of it was sent.
    fn send(&mut self, id: u64, reply: &Reply, fds: Vec<Arc<OwnedFd>>) -> bool {
        let Some(socket) = &self.socket else { return false };
        let Ok(datagrams) = wire::encode(id, reply, fds) else { return false };
        let mut is_begun = false;
        for datagram in datagrams {
            if datagram.send(socket, false).is_err() {
                if is_begun {
                    self.standing = Standing::Unknown;
                }
                return is_begun;
            }
            is_begun = true;
        }
        true
    }

    fn garble(&mut self, whose: u8, at: u8, byte: u8) {
        let Some(socket) = &self.socket else { return };
        let (id, place) = self.find(whose);
        let reply = reply(place.map(|place| &self.owed[place].body), at >> 5, 0);
        let Ok(datagrams) = wire::encode(id, &reply, Vec::new()) else { return };
        let Some(mut bytes) = datagrams.into_iter().next().map(|datagram| datagram.bytes) else { return };
        let at = usize::from(at & 0x1f) % bytes.len();
        match byte {
            0 => bytes.truncate(at),
            1 => bytes.push(0),
            _ => bytes[at] = byte,
        }
        socket::send(socket, &bytes, &[], false).ok();
        self.standing = Standing::Unknown;
    }

    fn part(&mut self) {
        let Some(socket) = &self.socket else { return };
        socket::send(socket, &[1, 0x92], &[self.things[0].as_fd()], false).ok();
        self.standing = Standing::Unknown;
    }
}

/// What answers this request or, as the kind says, another. The lower bits of the detail say which results it has.
fn reply(request: Option<&Request>, kind: u8, detail: u8) -> Reply {
    let asked = match request {
        Some(Request::Open(files)) => files.len(),
        Some(Request::Symlink(links)) => links.len(),
        _ => 1,
    };
    let results = || {
        let failure = |number: usize| match detail & 3 {
            0 => None,
            1 => Some(failure(0)),
            _ => (number & 1 == 0).then(|| failure(detail)),
        };
        let surplus = usize::from(detail & 7 == 7);
        (0..asked + surplus).map(failure).collect::<Vec<_>>()
    };
    match kind % 20 {
        10 => Reply::Done,
        11 => Reply::Hello(detail.into()),
        12 => Reply::Started,
        13 => Reply::Opened(results()),
        14 => Reply::Linked(results()),
        15 => Reply::Fingerprint(unlike(detail)),
        16 => Reply::Differs { first: RawFingerprint::default(), now: unlike(detail) },
        17 => Reply::Forked,
        18 => Reply::Ended(measured(detail)),
        19 => Reply::Failed(failure(detail)),
        _ => match request {
            Some(Request::Open(_)) => Reply::Opened(results()),
            Some(Request::Symlink(_)) => Reply::Linked(results()),
            Some(Request::Fingerprint) => Reply::Fingerprint(RawFingerprint::default()),
            Some(Request::StartRun(_)) => Reply::Ended(measured(detail)),
            _ => Reply::Done,
        },
    }
}

fn failure(detail: u8) -> Failure {
    const STEPS: [Step; 4] = [Step::Open, Step::EnterGroup, Step::Exec, Step::Send];
    const ERRNOS: [i32; 8] = [libc::ENOENT, 0, -1, i32::MAX, i32::MIN, libc::EAGAIN, libc::ENOMEM, 4096];
    let path = match detail & 0x60 {
        0x20 => Some("\x1b[31m\n\u{85}\u{202e}".into()),
        0x40 => Some("y".repeat(100).into()),
        _ => None,
    };
    Failure { step: STEPS[usize::from(detail) % 4], errno: ERRNOS[usize::from(detail >> 2) % 8], path }
}

fn unlike(detail: u8) -> RawFingerprint {
    RawFingerprint { limits: vec![(1, u64::MAX); detail.into()], ..RawFingerprint::default() }
}

fn measured(detail: u8) -> Measurement {
    const STATUSES: [WaitStatus; 8] = [
        WaitStatus::exited(0),
        WaitStatus::exited(3),
        WaitStatus::signaled(9, false),
        WaitStatus::signaled(64, true),
        WaitStatus::exited(256),
        WaitStatus(-1),
        WaitStatus(0x80),
        WaitStatus(i32::MAX),
    ];
    let (most, count) = if detail & 0x80 == 0 { (0, None) } else { (u64::MAX, Some(u64::MAX)) };
    Measurement {
        status: STATUSES[usize::from(detail & 7)],
        killed: [None, Some(KillReason::Request), Some(KillReason::Output)][usize::from(detail >> 3) % 3],
        wall_us: most,
        set_up_us: count,
        user_us: most,
        system_us: most,
        peak_resident_bytes: most,
        group: count.map(|count| GroupFigures {
            version: CgroupVersion::V2,
            cpu_us: Some(count),
            memory_peak_bytes: Some(count),
            processes_peak: Some(count),
            oom_kills: Some(count),
            refused_forks: Some(count),
            throttled_us: Some(count),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TURNS: [u8; 4] = [4, 3, 0, 0];
    const RECEIVE: [u8; 4] = [6, 0, 0, 0];

    fn call(kind: u8) -> [u8; 4] {
        [0, kind, 1, 0]
    }

    fn answer(whose: u8, kind: u8, detail: u8) -> [u8; 4] {
        [8, whose, kind, detail]
    }

    /// What the target begins with: conversations that keep to the protocol, and the least that does not.
    fn seeds() -> [(&'static str, Vec<u8>); 6] {
        let one = |kind| [call(kind), TURNS, RECEIVE, answer(0, 0, 0), TURNS];
        let several = [call(0), call(2), call(1), call(3), call(8), TURNS, RECEIVE, RECEIVE, RECEIVE, RECEIVE, RECEIVE];
        let asked = |kind| [call(kind), TURNS, RECEIVE];
        let script = |acts: &[&[[u8; 4]]]| [&[0], acts.concat().as_flattened()].concat();
        let every: Vec<_> = (0..KINDS).map(one).collect();
        [
            ("every_call", script(&[every.as_flattened()])),
            ("out_of_order", script(&[&several, &[4, 2, 1, 0, 0].map(|whose| answer(whose, 0, 0))])),
            ("pipes", script(&[&asked(2), &[answer(0, 0, 8 * 10)]])),
            ("twice", script(&[&asked(0), &[answer(0, 0, 0), answer(0xfc, 0, 0)]])),
            ("not_its_own", script(&[&asked(10), &[answer(0, 17, 0)]])),
            ("closed", script(&[&several, &[[15, 0, 0, 0]]])),
        ]
    }

    #[test]
    fn the_seeds_are_played() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/actor");
        for (name, script) in seeds() {
            actor(&script);
            if std::env::var_os("CELLBLOCK_WRITE_SEEDS").is_some() {
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(name), &script).unwrap();
            }
        }
    }

    #[test]
    fn hostile_answers_are_played() {
        let mut state = 0x2545_f491_u32;
        for _ in 0..100 {
            let script: Vec<u8> = (0..201)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            actor(&script);
        }
    }
}
