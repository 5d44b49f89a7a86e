//! Random sequences of commands against a real container, beside a simple model of the files that it should have.
//!
//! Where a future is dropped, or a program is killed, several things may have happened: then the model is a set of worlds,
//! and whatever is seen later must be so in one of them. `PROPTEST_CASES` asks for more cases than the few of every day.
#![allow(missing_docs)]

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cellblock::{Container, Output, Result, Status};
use common::{Census, container, sh};
use futures::future::{LocalBoxFuture, join_all};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SECOND: Duration = Duration::from_secs(1);

/// The names that a sequence is about. Only the directory can be one.
const DIR: &str = "d";
const NAMES: [&str; 4] = ["a", "b", DIR, "d/e"];

type Name = &'static str;

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Content(Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beginning = self.0[..self.0.len().min(20)].escape_ascii();
        if self.0.len() > 20 {
            write!(f, "{beginning}… ({} bytes)", self.0.len())
        } else {
            write!(f, "\"{beginning}\"")
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Ping,
    Write(Name, Content),
    Read(Name),
    /// A link of this name that says where another one is.
    Symlink(Name, Name),
    Delete(Name),
    Reset,
    Run(Program),
    /// A program that would never end, killed.
    Kill,
    /// The same, dropped.
    Forget,
    /// Polled so many times and then dropped, unless it has ended.
    Dropped(u8, Box<Op>),
}

#[derive(Clone, Debug)]
enum Program {
    Exit(u8),
    Cat(Name),
    Append(Name, String),
    Remove(Name),
}

impl Op {
    /// Whether it is carried out bit by bit, by somebody who does not stop when it is dropped.
    fn is_gradual(&self) -> bool {
        match self {
            Self::Run(Program::Append(..)) => true,
            Self::Write(_, content) => content.0.len() > 1000,
            _ => false,
        }
    }
}

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Content(Content),
    Errno(i32),
    Ended(Status, Content),
}

fn exited(code: i32) -> Outcome {
    Outcome::Ended(Status::Exited(code), Content::default())
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    File(Content),
    Link(Name),
    Dir,
}

/// What there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    entries: BTreeMap<Name, Entry>,
    /// What a dropped program may still remove, for as long as no other one has run.
    removing: Option<Name>,
}

impl World {
    /// What is at a name whose directory is opened by itself, which a link is none of.
    fn look_in_dir(&self, name: Name) -> Result<Option<&Entry>, i32> {
        self.look(name).map_err(|errno| if errno == libc::ELOOP { libc::ENOTDIR } else { errno })
    }

    /// What is at a name, for the library, which follows no link.
    fn look(&self, name: Name) -> Result<Option<&Entry>, i32> {
        if name.starts_with("d/") {
            match self.entries.get(DIR) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(libc::ENOTDIR),
                Some(Entry::Link(_)) => return Err(libc::ELOOP),
                None => return Err(libc::ENOENT),
            }
        }
        Ok(self.entries.get(name))
    }

    /// The name that a program gets to, through links. What is in a link's directory is not there.
    fn follow(&self, mut name: Name) -> Option<Name> {
        for _ in 0..NAMES.len() {
            match self.look(name) {
                Ok(Some(Entry::Link(target))) => name = target,
                Ok(_) => return Some(name),
                Err(_) => return None,
            }
        }
        None
    }

    fn remove(&mut self, name: Name) -> Outcome {
        match self.look_in_dir(name) {
            Err(errno) => return Outcome::Errno(errno),
            Ok(None) => return Outcome::Errno(libc::ENOENT),
            Ok(Some(Entry::Dir)) if self.entries.contains_key("d/e") => return Outcome::Errno(libc::ENOTEMPTY),
            Ok(Some(_)) => self.entries.remove(name),
        };
        Outcome::Done
    }

    fn run(&mut self, program: &Program) -> Outcome {
        match program {
            Program::Exit(code) => return exited(i32::from(*code)),
            Program::Cat(name) => {
                if let Some(Entry::File(content)) = self.follow(name).and_then(|name| self.entries.get(name)) {
                    return Outcome::Ended(Status::Exited(0), content.clone());
                }
            }
            Program::Append(name, text) => {
                if let Some(name) = self.follow(name) {
                    let entry = self.entries.entry(name).or_insert_with(|| Entry::File(Content::default()));
                    if let Entry::File(content) = entry {
                        content.0.extend_from_slice(text.as_bytes());
                        return exited(0);
                    }
                }
            }
            Program::Remove(name) => {
                if !matches!(self.look(name), Ok(Some(Entry::Dir))) && self.remove(name) == Outcome::Done {
                    return exited(0);
                }
            }
        }
        exited(9)
    }

    /// Makes what a write needs and leaves the file empty. What else it may come to is an errno.
    fn open_to_write(&mut self, name: Name) -> Result<(), i32> {
        if name.starts_with("d/") {
            self.entries.entry(DIR).or_insert(Entry::Dir);
        }
        // The directory is made, or found, first.
        match self.look_in_dir(name) {
            Err(errno) => Err(errno),
            Ok(Some(Entry::Dir)) => Err(libc::EISDIR),
            Ok(Some(Entry::Link(_))) => Err(libc::ELOOP),
            Ok(_) => {
                self.entries.insert(name, Entry::File(Content::default()));
                Ok(())
            }
        }
    }

    /// Carries a command out, whole.
    fn step(mut self, op: &Op) -> (Outcome, Self) {
        let outcome = match op {
            Op::Ping | Op::Forget => Outcome::Done,
            Op::Kill => Outcome::Ended(Status::Signaled { signal: 9, core_dumped: false }, Content::default()),
            Op::Write(name, content) => match self.open_to_write(name) {
                Ok(()) => {
                    self.entries.insert(name, Entry::File(content.clone()));
                    Outcome::Done
                }
                Err(errno) => Outcome::Errno(errno),
            },
            Op::Read(name) => match self.look(name) {
                Err(errno) => Outcome::Errno(errno),
                Ok(None) => Outcome::Errno(libc::ENOENT),
                Ok(Some(Entry::File(content))) => Outcome::Content(content.clone()),
                Ok(Some(Entry::Link(_))) => Outcome::Errno(libc::ELOOP),
                Ok(Some(Entry::Dir)) => Outcome::Errno(libc::EISDIR),
            },
            Op::Symlink(target, name) => match self.look_in_dir(name) {
                Err(errno) => Outcome::Errno(errno),
                Ok(Some(_)) => Outcome::Errno(libc::EEXIST),
                Ok(None) => {
                    self.entries.insert(name, Entry::Link(target));
                    Outcome::Done
                }
            },
            Op::Delete(name) => self.remove(name),
            Op::Reset => {
                self.entries.clear();
                Outcome::Done
            }
            Op::Run(program) => self.run(program),
            Op::Dropped(_, op) => return self.step(op),
        };
        (outcome, self)
    }

    /// What a command may have done until it was dropped.
    fn dropped(self, op: &Op) -> Vec<Self> {
        let mut emptied = self.clone();
        match op {
            Op::Write(name, _) => drop(emptied.open_to_write(name)),
            Op::Run(Program::Remove(name)) => emptied.removing = Some(name),
            Op::Symlink(..) | Op::Delete(_) | Op::Reset => emptied = emptied.step(op).1,
            _ => {}
        }
        vec![self, emptied]
    }

    /// What a dropped program may have done by now.
    fn and_later(self) -> Vec<Self> {
        let mut removed = self.clone();
        match removed.removing.take() {
            Some(name) => drop(removed.run(&Program::Remove(name))),
            None => return vec![self],
        }
        vec![self, removed]
    }
}

/// Everything that may be the case, as far as one task knows.
struct Worlds(BTreeSet<World>);

impl Worlds {
    fn see(&mut self, op: &Op, outcome: Option<&Outcome>) {
        let before = std::mem::take(&mut self.0).into_iter().flat_map(World::and_later);
        let is_turn = |op: &Op| matches!(op, Op::Reset | Op::Run(_) | Op::Kill | Op::Forget);
        let after: BTreeSet<World> = match (outcome, op) {
            (Some(outcome), op) => {
                let op = if let Op::Dropped(_, op) = op { op } else { op };
                // A program or reset that has come to its end has waited for those before it.
                let over = |world: World| if is_turn(op) { World { removing: None, ..world } } else { world };
                let stepped = before.map(|world| over(world).step(op));
                stepped.filter(|(expected, _)| expected == outcome).map(|(_, world)| world).collect()
            }
            (None, Op::Dropped(_, op)) => before.flat_map(|world| world.dropped(op)).collect(),
            (None, _) => unreachable!("it was not dropped"),
        };
        self.0 = after;
    }
}

/// Carries a command out in a container. A task has files of its own: their names begin with the same letters.
fn carry_out<'a>(container: &'a Container, own: &'a str, op: &'a Op) -> LocalBoxFuture<'a, Option<Outcome>> {
    let path = move |name: &Name| format!("{own}{name}");
    let file = |result: Result<()>| match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Errno(error.raw_os_error().unwrap_or_else(|| panic!("{error}"))),
    };
    Box::pin(async move {
        Some(match op {
            Op::Ping => file(container.ping(5 * SECOND).await),
            Op::Write(name, content) => file(container.write(path(name), content.0.clone(), 0o644).await),
            Op::Read(name) => match container.read(path(name), 1 << 20).await {
                Ok(content) => Outcome::Content(Content(content)),
                Err(error) => file(Err(error)),
            },
            Op::Symlink(target, name) => {
                let results = container.symlink([(format!("/w/{own}{target}"), path(name))]).await.unwrap();
                file(results.into_iter().next().unwrap())
            }
            Op::Delete(name) => file(container.delete(path(name)).await),
            Op::Reset => file(container.reset().await),
            Op::Run(program) => {
                let script = match program {
                    Program::Exit(code) => format!("exit {code}"),
                    Program::Cat(name) => format!("cat {} || exit 9", path(name)),
                    Program::Append(name, text) => format!("echo -n {text} >> {} || exit 9", path(name)),
                    Program::Remove(name) => format!("rm {} || exit 9", path(name)),
                };
                let Output { report, stdout, .. } = container.output(&sh(&script)).await.unwrap();
                Outcome::Ended(report.status, Content(stdout))
            }
            Op::Kill => {
                let mut process = container.spawn(&sh("sleep 60")).await.unwrap();
                Outcome::Ended(process.kill().await.unwrap().status, Content::default())
            }
            Op::Forget => {
                drop(container.spawn(&sh("sleep 60")).await.unwrap());
                Outcome::Done
            }
            Op::Dropped(polls, op) => {
                let mut future = carry_out(container, own, op);
                for _ in 0..*polls {
                    if let std::task::Poll::Ready(outcome) = futures::poll!(future.as_mut()) {
                        return outcome;
                    }
                    tokio::task::yield_now().await;
                }
                return None;
            }
        })
    })
}

async fn task(container: &Container, own: &str, ops: &[Op]) {
    let mut worlds = Worlds(BTreeSet::from([World::default()]));
    // At the end everything is looked at.
    let reads: Vec<_> = std::iter::once(Op::Run(Program::Exit(0))).chain(NAMES.map(Op::Read)).collect();
    for op in ops.iter().chain(&reads) {
        let possible = format!("{:#?}", worlds.0);
        let outcome = tokio::time::timeout(10 * SECOND, carry_out(container, own, op)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{op:?} does not end"));
        worlds.see(op, outcome.as_ref());
        assert!(!worlds.0.is_empty(), "{own}{op:?} came to {outcome:?} in one of {possible}");
    }
}

fn op() -> impl Strategy<Value = Op> {
    let name = || prop::sample::select(&NAMES[..]);
    let program = prop_oneof![
        any::<u8>().prop_map(Program::Exit),
        name().prop_map(Program::Cat),
        (name(), "[a-z]{1,3}").prop_map(|(name, text)| Program::Append(name, text)),
        name().prop_map(Program::Remove),
    ];
    let content = prop_oneof![prop::collection::vec(any::<u8>(), 0..4), Just(vec![b'x'; 100_000])].prop_map(Content);
    let whole = prop_oneof![
        1 => Just(Op::Ping),
        4 => (name(), content).prop_map(|(name, content)| Op::Write(name, content)),
        4 => name().prop_map(Op::Read),
        3 => (name(), name()).prop_map(|(target, name)| Op::Symlink(target, name)),
        3 => name().prop_map(Op::Delete),
        1 => Just(Op::Reset),
        6 => program.prop_map(Op::Run),
        1 => Just(Op::Kill),
        1 => Just(Op::Forget),
    ];
    (whole, prop::option::weighted(0.3, 0..12_u8)).prop_map(|(op, polls)| match (polls, op) {
        (None, op) => op,
        (_, op) if op.is_gradual() => op,
        (Some(polls), op) => Op::Dropped(polls, Box::new(op)),
    })
}

/// Checks a property of cases that share a container, when no other test runs, and that nothing is left.
fn check<T: std::fmt::Debug>(cases: impl Strategy<Value = T>, property: impl AsyncFn(&Container, T)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What the library keeps for ever is there from the first container on.
    runtime.block_on(async { container().await.destroy().await });
    let census = Census::take();
    let count = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 40 };
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    let shared = RefCell::new(None);
    let result = TestRunner::new(config).run(&cases, |case| {
        runtime.block_on(async {
            // One that has seen a failure is not used again.
            let (container, used) = match shared.take() {
                Some(shared) => shared,
                None => (container().await, 0),
            };
            property(&container, case).await;
            container.reset().await.unwrap();
            if used < 50 {
                shared.replace(Some((container, used + 1)));
            }
        });
        Ok(())
    });
    drop(shared);
    if let Err(failure) = result {
        panic!("{failure}");
    }
    runtime.block_on(census.is_back());
}

#[test]
fn a_container_does_what_a_model_of_it_does() {
    check(prop::collection::vec(op(), 1..25), async |container, ops| task(container, "", &ops).await);
}

#[test]
fn tasks_side_by_side_do_not_disturb_each_other() {
    // A reset would be everybody's.
    let op = op().prop_filter("a reset", |op| match op {
        Op::Dropped(_, op) => !matches!(**op, Op::Reset),
        op => !matches!(op, Op::Reset),
    });
    check(prop::collection::vec(prop::collection::vec(op, 1..12), 2..5), async |container, tasks| {
        let own: Vec<_> = (0..tasks.len()).map(|number| format!("task{number}-")).collect();
        join_all(tasks.iter().zip(&own).map(|(ops, own)| task(container, own, ops))).await;
    });
}
