//! The orders of events at an actor: calls from several tasks, some of them dropped, and an init
//! that answers in any order, late or in parts, or breaks off.
//!
//! Invariant: in every order, every call ends, with its own answer or with the reason of the
//! container's one death.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::task::Poll;

use futures::future::{LocalBoxFuture, join_all};
use nix::poll::{PollFd, PollFlags, poll};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::process::{Process, Signal};
use crate::report::{Report, Status};
use crate::sys::memory;
use crate::wire::{OpenRequest, StartBeside, State, Symlink};

/// A call. The request carries the call's number in the case, so an answer shows which call it is
/// for.
#[derive(Clone, Copy, Debug)]
enum Call {
    Ping,
    Delete,
    Open(usize),
    Symlink(usize),
    Reset,
    Freeze,
    Run,
    SpawnAndWait,
    SpawnAndKill,
    SpawnAndDrop,
    RunBeside,
    SpawnAndSignal,
}

/// When a task makes a call, and when it drops the call.
#[derive(Clone, Copy, Debug)]
struct Timing {
    call: Call,
    /// How often the task yields first.
    yields: u8,
    /// After how many polls the task drops the call.
    polls: Option<u8>,
}

#[derive(Clone, Debug)]
enum Act {
    Receive,
    /// Answers one of the requests that are owed a reply.
    Answer(prop::sample::Index),
    Break(Break),
}

#[derive(Clone, Copy, Debug)]
enum Break {
    Close,
    Garbage,
    /// The first datagram of a message that has more.
    Part,
    /// A reply without a request.
    Stray,
    /// A reply of a kind that never fits.
    Misfit,
    /// The init says nothing for longer than the host waits.
    Silence,
}

/// How long the host waits for an init that breaks off.
const SHORT_PATIENCE: Duration = Duration::from_millis(150);

/// The number that a path or an argument carries.
fn number_in(text: &[u8]) -> i32 {
    std::str::from_utf8(text).unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// How the call with this number fails: every third call does, with its number as the errno.
fn failure(number: i32, step: Step) -> Option<Failure> {
    (number % 3 == 0).then_some(Failure { step, errno: number, path: None })
}

/// An init that keeps to the protocol until it breaks off, and checks that the host keeps to it.
struct OrderlyInit {
    init: FakeInit,
    owed: Vec<Frame<Request>>,
    runs: Vec<u64>,
    killed: Vec<u64>,
}

impl OrderlyInit {
    fn new(init: FakeInit) -> Self {
        Self { init, owed: Vec::new(), runs: Vec::new(), killed: Vec::new() }
    }

    /// Receives a request, if there is one or with `wait`. Returns false once the host has closed.
    fn receive(&mut self, wait: bool) -> bool {
        let request = match self.init.receive(wait) {
            Ok(Some(request)) => request,
            Ok(None) => return false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) => panic!("{error}"),
        };
        let takes_a_turn =
            |frame: &Frame<Request>| matches!(frame.body, Request::StartRun(_) | Request::Reset | Request::Freeze);
        let state = if self.owed.iter().any(takes_a_turn) { State::Running } else { State::Idle };
        assert!(state.admits(&request.body), "{state:?}: {request:?}");
        match request.body {
            Request::Kill(id, _) => {
                assert!(self.runs.contains(&id), "no run has the id {id}");
                self.killed.push(id);
            }
            Request::StartRun(_) | Request::StartBeside(_) => {
                self.runs.push(request.id);
                self.owed.push(request);
            }
            _ => self.owed.push(request),
        }
        true
    }

    fn reply(&self, Frame { id, body, .. }: &Frame<Request>) -> (Reply, Vec<Arc<OwnedFd>>) {
        let done = |failure: Option<Failure>| failure.map_or(Reply::Done, Reply::Failed);
        let reply = match body {
            Request::Ping | Request::Reset | Request::Freeze => Reply::Done,
            Request::Rename(rename) => {
                done(failure(number_in(rename.from.as_os_str().as_encoded_bytes()), Step::Rename))
            }
            Request::Delete(paths) => {
                let number = |path: &PathBuf| number_in(path.as_os_str().as_encoded_bytes());
                Reply::Each(paths.iter().map(|path| failure(number(path), Step::Delete)).collect())
            }
            Request::Open(files) => {
                let number = |file: &OpenRequest| number_in(file.path.as_os_str().as_encoded_bytes());
                let results: Vec<_> = files.iter().map(|file| failure(number(file), Step::Open)).collect();
                let content = files.first().map_or(0, number).to_string();
                let fd = Arc::new(memory::sealed("file", content.as_bytes()).unwrap());
                let fds = vec![fd; results.iter().filter(|result| result.is_none()).count()];
                return (Reply::Opened(results), fds);
            }
            Request::Symlink(links) => {
                let number = |link: &Symlink| number_in(link.path.as_os_str().as_encoded_bytes());
                Reply::Each(links.iter().map(|link| failure(number(link), Step::MakeSymlink)).collect())
            }
            Request::Signal(run, _) => {
                let is_going_on = self.owed.iter().any(|frame| frame.id == *run);
                done((!is_going_on).then(|| Failure::new(Step::Signal, nix::Error::ESRCH)))
            }
            Request::StartBeside(beside) if !self.owed.iter().any(|frame| frame.id == beside.main) => {
                Reply::Failed(Failure::new(Step::FindRun, nix::Error::ESRCH))
            }
            Request::StartRun(execve) | Request::StartBeside(StartBeside { run: execve, .. }) => {
                let number = number_in(execve.args.iter().nth(1).unwrap());
                let status = match self.killed.contains(id) {
                    true => WaitStatus::signaled(9, false),
                    false => WaitStatus::exited(number),
                };
                let report = Reply::Ended(Measurement::of(status));
                failure(number, Step::Exec).map_or(report, Reply::Failed)
            }
            other => panic!("a request that no call makes: {other:?}"),
        };
        (reply, Vec::new())
    }

    fn answer(&mut self, index: usize) {
        let id = self.owed[index].id;
        // A run is over only when those beside it are.
        let is_beside = |frame: &Frame<Request>| matches!(&frame.body, Request::StartBeside(it) if it.main == id);
        let index = self.owed.iter().position(is_beside).unwrap_or(index);
        let request = self.owed.remove(index);
        let (reply, fds) = self.reply(&request);
        // The host may be gone.
        self.init.answer_with(request.id, &reply, fds).ok();
    }

    fn break_off(&self, how: Break) {
        let owed = self.owed.first().map_or(0, |request| request.id);
        let (bytes, fds) = match how {
            Break::Close => return,
            Break::Silence => return thread::sleep(2 * SHORT_PATIENCE),
            Break::Garbage => (b"\0garbage".to_vec(), Vec::new()),
            Break::Part => (vec![1, 0x92, 1], vec![Arc::new(memory::sealed("file", b"").unwrap())]),
            Break::Stray => (datagram(u64::MAX, &Reply::Done), Vec::new()),
            Break::Misfit => (datagram(owed, &Reply::Hello(1)), Vec::new()),
        };
        // The host may be gone.
        self.init.send(bytes, fds, true).ok();
    }

    fn play(mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Answer(index) if !self.owed.is_empty() => self.answer(index.index(self.owed.len())),
                Act::Receive | Act::Answer(_) => {
                    // While the host waits for an answer it may send nothing more.
                    let mut fds = [PollFd::new(self.init.as_fd(), PollFlags::POLLIN)];
                    poll(&mut fds, if self.owed.is_empty() { 1000_u16 } else { 1 }).unwrap();
                    if !self.receive(false) {
                        return;
                    }
                }
                Act::Break(how) => return self.break_off(how),
            }
        }
        // In the end every request is answered.
        loop {
            while !self.owed.is_empty() {
                self.answer(0);
            }
            if !self.receive(true) {
                return;
            }
        }
    }
}

/// How a call ended for its caller.
#[derive(Debug)]
enum End {
    Dropped,
    Right,
    Wrong(String),
    Died(Error),
}

/// Compares a result with the reply of [`OrderlyInit::reply`] to this number.
fn judge<T: std::fmt::Debug>(number: i32, result: Result<T>, can_fail: bool, is_right: impl FnOnce(&T) -> bool) -> End {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Lost | ErrorKind::Destroyed) => End::Died(error),
        Err(error) if can_fail && number % 3 == 0 && error.raw_os_error() == Some(number) => End::Right,
        Ok(value) if !(can_fail && number % 3 == 0) && is_right(&value) => End::Right,
        other => End::Wrong(format!("call {number}: {other:?}")),
    }
}

fn judge_all<T: std::fmt::Debug>(number: i32, result: Result<Vec<Result<T>>>, is_right: impl Fn(&T) -> bool) -> End {
    let is_right = |one: &Result<T>| match one {
        Ok(value) => number % 3 != 0 && is_right(value),
        Err(error) => number % 3 == 0 && error.raw_os_error() == Some(number),
    };
    judge(number, result, false, |results| results.iter().all(is_right))
}

fn judge_run(number: i32, result: Result<Report>, may_be_killed: bool) -> End {
    judge(number, result, true, |report| match report.status {
        Status::Exited(code) => code == number,
        Status::Signaled { signal, .. } => may_be_killed && signal == 9,
    })
}

fn call(container: &Container, number: i32, call: Call) -> LocalBoxFuture<'_, End> {
    let path = move || PathBuf::from(format!("f{number}"));
    let mut command = Command::new("/p");
    command.arg(number.to_string());
    Box::pin(async move {
        let spawned = async || container.spawn(&command).await;
        match call {
            Call::Ping => judge(number, container.ping(Duration::from_secs(10)).await, false, |()| true),
            Call::Delete => judge(number, container.delete(path()).await, true, |()| true),
            Call::Reset => judge(number, container.reset().await, false, |()| true),
            Call::Freeze => judge(number, container.freeze().await, false, |()| true),
            Call::Open(count) => {
                let opened = container.open((0..count).map(|_| OpenFile::read(path()))).await;
                let is_right = |mut file: &File| {
                    let mut content = String::new();
                    // All descriptors share one file and its offset.
                    file.read_to_string(&mut content).unwrap();
                    content.is_empty() || content == number.to_string()
                };
                let count_is_right = opened.as_ref().map_or(true, |results| results.len() == count);
                assert!(count_is_right, "call {number}");
                judge_all(number, opened, is_right)
            }
            Call::Symlink(count) => {
                let links = (0..count).map(|_| ("t", path()));
                judge_all(number, container.symlink(links).await, |()| true)
            }
            Call::Run => judge_run(number, container.run(&command).await, false),
            Call::RunBeside => match container.beside().run(&command).await {
                Err(error) if error.kind() == ErrorKind::NotRunning => End::Right,
                result => judge_run(number, result, false),
            },
            Call::SpawnAndWait | Call::SpawnAndKill | Call::SpawnAndDrop | Call::SpawnAndSignal => {
                match (spawned().await, call) {
                    (Ok(process), Call::SpawnAndSignal) => match process.signal(Signal::TERMINATE).await {
                        Err(error) if error.kind() == ErrorKind::NotRunning => End::Right,
                        result => judge(number, result, false, |()| true),
                    },
                    (Ok(mut process), Call::SpawnAndWait) => judge_run(number, process.wait().await, false),
                    (Ok(mut process), Call::SpawnAndKill) => judge_run(number, process.kill().await, true),
                    (Ok(process), _) => judge(number, Ok::<Process, _>(process), false, |_| true),
                    (Err(error), _) => judge_run(number, Err(error), true),
                }
            }
        }
    })
}

async fn call_and_drop(container: &Container, number: i32, timing: Timing) -> End {
    for _ in 0..timing.yields {
        tokio::task::yield_now().await;
    }
    let mut future = call(container, number, timing.call);
    let Some(polls) = timing.polls else { return future.await };
    for _ in 0..polls {
        if let Poll::Ready(end) = futures::poll!(future.as_mut()) {
            return end;
        }
        tokio::task::yield_now().await;
    }
    End::Dropped
}

async fn check_every_call_ends(calls: &[Timing], acts: Vec<Act>) {
    let is_broken = acts.iter().any(|act| matches!(act, Act::Break(_)));
    let patience = if is_broken { SHORT_PATIENCE } else { Duration::from_secs(10) };
    let (container, init) = served_with_patience(patience, move |init| OrderlyInit::new(init).play(acts));
    let calls = calls.iter().zip(1..).map(|(timing, number)| call_and_drop(&container, number, *timing));
    let ends = tokio::time::timeout(Duration::from_secs(20), join_all(calls)).await.expect("every call ends");
    if !is_broken {
        // An init that has answered every request answers once more.
        container.ping(Duration::from_secs(10)).await.unwrap();
    }
    container.destroy().await;
    let death = container.death().await;
    for end in ends {
        match end {
            End::Dropped | End::Right => {}
            End::Wrong(what) => panic!("{what}"),
            End::Died(error) => {
                assert!(is_broken, "{error}");
                assert_eq!(error.to_string(), death.to_string(), "there is one death");
            }
        }
    }
    assert_eq!(container.delete("f1").await.unwrap_err().to_string(), death.to_string());
    init.join().unwrap();
}

fn calls() -> impl Strategy<Value = Vec<Timing>> {
    let count = || prop_oneof![8 => 0..4_usize, 1 => Just(300)];
    let call = prop_oneof![
        Just(Call::Ping),
        Just(Call::Delete),
        count().prop_map(Call::Open),
        count().prop_map(Call::Symlink),
        Just(Call::Reset),
        Just(Call::Freeze),
        Just(Call::Run),
        Just(Call::SpawnAndWait),
        Just(Call::SpawnAndKill),
        Just(Call::SpawnAndDrop),
        Just(Call::RunBeside),
        Just(Call::SpawnAndSignal),
    ];
    let timing = (call, 0..20_u8, prop::option::weighted(0.4, 0..10_u8));
    prop::collection::vec(timing.prop_map(|(call, yields, polls)| Timing { call, yields, polls }), 1..16)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![Just(Act::Receive), any::<prop::sample::Index>().prop_map(Act::Answer)];
    let how = prop_oneof![
        6 => Just(Break::Close),
        6 => Just(Break::Garbage),
        6 => Just(Break::Part),
        6 => Just(Break::Stray),
        6 => Just(Break::Misfit),
        1 => Just(Break::Silence),
    ];
    let acts = prop::collection::vec(act, 0..40);
    (acts, prop::option::of(how)).prop_map(|(mut acts, how)| {
        acts.extend(how.map(Act::Break));
        acts
    })
}

#[test]
fn in_every_order_every_call_ends_with_its_own_answer_or_the_one_death() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 200 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&(calls(), acts()), |(calls, acts)| {
        runtime.block_on(check_every_call_ends(&calls, acts));
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
