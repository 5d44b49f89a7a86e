//! Random sequences of commands, run against a real container and against a model of its files.
//!
//! After a dropped future or a killed program the model cannot know how far the command got. So the
//! model is a set of possible worlds, and each later result must agree with at least one of them.
//! `PROPTEST_CASES` sets the number of cases (40).

mod world;

use std::cell::RefCell;

use cellblock::{Command, Container, ContainerBuilder, Output, Result};
use futures::future::{LocalBoxFuture, join_all};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{LeakSnapshot, SECOND, builder, container, sh};
use world::{Content, DIRECTORIES, FILES, NAMES, Name, Op, Outcome, Program, Worlds};

/// Runs a command in a container. `own` is the prefix of the file names that belong to the task.
fn carry_out<'a>(container: &'a Container, own: &'a str, op: &'a Op) -> LocalBoxFuture<'a, Option<Outcome>> {
    let path = move |name: &Name| format!("{own}{name}");
    let file = |result: Result<()>| match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Errno(error.raw_os_error().unwrap_or_else(|| panic!("{error}"))),
    };
    Box::pin(async move {
        Some(match op {
            Op::Ping => file(container.ping(5 * SECOND).await),
            Op::Write(name, content) => file(container.write(path(name), content.0.clone()).await),
            Op::Read(name) => match container.read(path(name), 1 << 20).await {
                Ok(content) => Outcome::Content(Content(content)),
                Err(error) => file(Err(error)),
            },
            Op::Symlink(target, name) => {
                let results = container.symlink([(format!("/w/{own}{target}"), path(name))]).await.unwrap();
                file(results.into_iter().next().unwrap())
            }
            Op::Delete(name) => file(container.delete(path(name)).await),
            Op::MakeDirectory(name) => file(container.create_dir_all(path(name)).await),
            Op::Rename(from, to) => file(container.rename(path(from), path(to)).await),
            Op::RemoveTree(name) => file(container.remove_dir_all(path(name)).await),
            Op::Inspect(name) => match container.metadata(path(name)).await {
                Ok(metadata) => Outcome::Type(metadata.file_type()),
                Err(error) => file(Err(error)),
            },
            Op::Reset => file(container.reset().await),
            Op::Run(program) => {
                let Output { report, stdout, .. } = container.output(&script(program, own)).await.unwrap();
                Outcome::Ended(report.status, Content(stdout))
            }
            Op::RunBeside(program) => {
                let mut main = container.spawn(&sh("sleep 60")).await.unwrap();
                let Output { report, stdout, .. } = main.beside().output(script(program, own)).await.unwrap();
                main.kill().await.unwrap();
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

fn script(program: &Program, own: &str) -> Command {
    sh(&match program {
        Program::Exit(code) => format!("exit {code}"),
        Program::Cat(name) => format!("cat {own}{name} || exit 9"),
        Program::Append(name, text) => format!("echo -n {text} >> {own}{name} || exit 9"),
        Program::Remove(name) => format!("rm {own}{name} || exit 9"),
    })
}

async fn task(container: &Container, own: &str, ops: &[Op]) {
    let mut worlds = Worlds::new();
    // At the end, read every file.
    let reads: Vec<_> = std::iter::once(Op::Run(Program::Exit(0))).chain(NAMES.map(Op::Read)).collect();
    for op in ops.iter().chain(&reads) {
        let possible = format!("{worlds:#?}");
        let outcome = tokio::time::timeout(10 * SECOND, carry_out(container, own, op)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{op:?} does not end"));
        worlds.see(op, outcome.as_ref());
        assert!(!worlds.is_none(), "{own}{op:?} came to {outcome:?} in one of {possible}");
    }
}

fn op() -> impl Strategy<Value = Op> {
    let name = || prop::sample::select(&NAMES[..]);
    let program = || {
        prop_oneof![
            any::<u8>().prop_map(Program::Exit),
            name().prop_map(Program::Cat),
            (name(), "[a-z]{1,3}").prop_map(|(name, text)| Program::Append(name, text)),
            name().prop_map(Program::Remove),
        ]
    };
    let content = prop_oneof![prop::collection::vec(any::<u8>(), 0..4), Just(vec![b'x'; 100_000])].prop_map(Content);
    let whole = prop_oneof![
        1 => Just(Op::Ping),
        4 => (name(), content).prop_map(|(name, content)| Op::Write(name, content)),
        4 => name().prop_map(Op::Read),
        3 => (name(), name()).prop_map(|(target, name)| Op::Symlink(target, name)),
        3 => name().prop_map(Op::Delete),
        2 => prop::sample::select(&DIRECTORIES[..]).prop_map(Op::MakeDirectory),
        3 => (prop::sample::select(&FILES[..]), name()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => name().prop_map(Op::RemoveTree),
        2 => name().prop_map(Op::Inspect),
        1 => Just(Op::Reset),
        6 => program().prop_map(Op::Run),
        2 => program().prop_map(Op::RunBeside),
        1 => Just(Op::Kill),
        1 => Just(Op::Forget),
    ];
    (whole, prop::option::weighted(0.3, 0..12_u8)).prop_map(|(op, polls)| match (polls, op) {
        (None, op) => op,
        (_, op) if op.is_gradual() => op,
        (Some(polls), op) => Op::Dropped(polls, Box::new(op)),
    })
}

/// Checks a property of many cases in shared containers, and that nothing leaks.
fn check<T: std::fmt::Debug>(
    builder: &ContainerBuilder,
    cases: impl Strategy<Value = T>,
    property: impl AsyncFn(&Container, T),
) {
    let _turn = crate::common::turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The library keeps some things after the first container; make them exist before the snapshot.
    runtime.block_on(async { container().await.destroy().await });
    let snapshot = LeakSnapshot::take();
    let count = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 40 };
    let config = Config { cases: count, failure_persistence: None, ..Config::default() };
    let shared = RefCell::new(None);
    let result = TestRunner::new(config).run(&cases, |case| {
        runtime.block_on(async {
            // A case that panics drops its container.
            let (container, used) = match shared.take() {
                Some(shared) => shared,
                None => (builder.build().await.unwrap(), 0),
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
    runtime.block_on(snapshot.assert_restored());
}

#[test]
fn a_container_behaves_as_its_model_does() {
    check(&builder(), prop::collection::vec(op(), 1..25), async |container, ops| task(container, "", &ops).await);
}

#[test]
fn a_container_whose_files_are_frozen_behaves_as_its_model_does() {
    let frozen = builder().setup_command(sh("touch f; rm f"));
    check(&frozen, prop::collection::vec(op(), 1..25), async |container, ops| task(container, "", &ops).await);
}

#[test]
fn concurrent_tasks_do_not_disturb_each_other() {
    // A reset would remove the files of all tasks.
    let op = op().prop_filter("a reset", |op| match op {
        Op::Dropped(_, op) => !matches!(**op, Op::Reset),
        op => !matches!(op, Op::Reset),
    });
    check(&builder(), prop::collection::vec(prop::collection::vec(op, 1..12), 2..5), async |container, tasks| {
        let own: Vec<_> = (0..tasks.len()).map(|number| format!("task{number}-")).collect();
        join_all(tasks.iter().zip(&own).map(|(ops, own)| task(container, own, ops))).await;
    });
}
