//! Everything that can break does, at every step: each time somebody is told why, and nothing is left.
//!
//! These tests count what the process has, so they run one at a time.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod injector;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use cellblock::{Command, Container, ContainerBuilder, Error, ErrorKind, Result, container::OpenFile};

use common::{ROLE, SECOND, alone, builder, sh};
use injector::{Act, Fault, Host, Side};

/// What became of a container, from its build to its end, with a bit of everything between.
#[derive(Debug)]
struct Life {
    /// What was asked and what was answered, in order.
    answers: Vec<(&'static str, Result<()>)>,
    /// What the container says of its end before it is destroyed, if it has ended.
    death: Option<Error>,
    /// The same, after.
    end: Option<Error>,
}

impl Life {
    fn errors(&self) -> impl Iterator<Item = &Error> {
        self.answers.iter().filter_map(|(_, answer)| answer.as_ref().err())
    }
}

/// Lives once, on a runtime of its own.
fn live(builder: &ContainerBuilder) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        injector::begin();
        let mut life = Life { answers: Vec::new(), death: None, end: None };
        let container = match builder.build().await {
            Ok(container) => container,
            Err(error) => {
                life.answers.push(("build", Err(error)));
                return life;
            }
        };
        let all = |results: Vec<Result<_>>| results.into_iter().collect::<Result<Vec<_>>>().map(drop);
        let files = ["g", "h", "i/j/k"].map(|name| OpenFile::write(name, 0o644).create_parents());
        let (program, shell) = (Command::new("/bin/true"), sh("echo hi"));
        life.answers.extend([
            ("ping", container.ping(5 * SECOND).await),
            ("write", container.write("f", *b"text", 0o644).await),
            ("read", container.read("f", 100).await.map(drop)),
            ("open", container.open(files).await.and_then(all)),
            ("symlink", container.symlink([("f", "l")]).await.and_then(|results| results.into_iter().collect())),
            ("delete", container.delete("g").await),
            ("run", in_time(&container, container.run(&program)).await.map(drop)),
            ("output", in_time(&container, container.output(&shell)).await.map(drop)),
            ("reset", container.reset().await),
            // A fault that passes is no reason to be unusable.
            ("ping", container.ping(5 * SECOND).await),
            ("run", in_time(&container, container.run(&program)).await.map(drop)),
        ]);
        if life.errors().any(|error| error.kind() == ErrorKind::Lost) {
            life.death = Some(container.death().await);
        }
        container.destroy().await;
        life.end = Some(container.death().await);
        life
    })
}

/// A run owes nothing until it is killed, so this one is given up after a while.
async fn in_time<T>(container: &Container, run: impl Future<Output = Result<T>>) -> Result<()> {
    match tokio::time::timeout(SECOND, run).await {
        Ok(result) => result.map(drop),
        Err(_) => container.ping(5 * SECOND).await,
    }
}

/// A life that a fault struck.
#[derive(Debug)]
#[expect(dead_code, reason = "the fault is for the message of a test that fails")]
struct Struck {
    fault: Fault,
    /// The name of the call.
    call: &'static str,
    life: Life,
}

/// Lives again and again, by several at a time, with the fault at another call each time: at `from`, and then at every
/// `step`th. Gives the lives that were struck.
fn sweep(
    side: Side,
    act: Act,
    (from, step): (usize, usize),
    workers: usize,
    builder: &ContainerBuilder,
) -> Vec<Struck> {
    let unstruck = injector::run(Fault { side, act, after: usize::MAX }, Host::Thread, || live(builder));
    assert_eq!(unstruck.result.errors().map(Error::to_string).collect::<Vec<_>>(), [""; 0], "the control");
    let live_with = |after| {
        let fault = Fault { side, act, after };
        let outcome = injector::run(fault, Host::Thread, || live(builder));
        outcome.struck.map(|call| Struck { fault, call, life: outcome.result })
    };
    let places: Vec<_> = (from..unstruck.calls).step_by(step).collect();
    let lives: Vec<_> = std::thread::scope(|scope| {
        let work = |worker| {
            let own = places.iter().skip(worker).step_by(workers);
            scope.spawn(move || own.filter_map(|&after| live_with(after)).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..workers).map(work).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // The last calls are of a number that varies.
    assert!(lives.len() > places.len() * 3 / 4, "{} of {}", lives.len(), places.len());
    lives
}

impl Struck {
    /// Whoever asked a container that was lost was told the same, and the others were told nothing of it.
    fn check_that_all_are_told_the_same(&self) {
        let Self { life, .. } = self;
        let lost =
            life.answers.iter().position(|(_, answer)| matches!(answer, Err(it) if it.kind() == ErrorKind::Lost));
        let Some(lost) = lost else {
            let is_built = !life.answers.iter().any(|(call, _)| *call == "build");
            assert_eq!(life.end.is_some(), is_built);
            return;
        };
        let reason = life.death.as_ref().unwrap().to_string();
        assert_eq!(life.end.as_ref().unwrap().to_string(), reason, "{self:?}");
        for (_, answer) in &life.answers[lost..] {
            assert_eq!(answer.as_ref().unwrap_err().to_string(), reason, "{self:?}");
        }
    }
}

#[test]
fn an_init_killed_at_any_step_is_an_error_and_leaves_nothing() {
    alone(async |census| {
        let lives = sweep(Side::Init, Act::Kill, (0, 1), 2, &builder());
        census.is_back().await;
        assert!(lives.len() > 200, "{}", lives.len());
        for struck in &lives {
            // Stage one exits once it has done its work; and where pid 1 waits for a request nobody may have one any more.
            let may_be_missed = ["exit_group", "recvmsg"].contains(&struck.call);
            assert!(may_be_missed || struck.life.errors().next().is_some(), "{struck:?}");
            for error in struck.life.errors() {
                let is_fit = matches!(error.kind(), ErrorKind::Build | ErrorKind::Lost);
                assert!(is_fit && error.to_string().contains("the init ended"), "{struck:?}");
            }
            struck.check_that_all_are_told_the_same();
        }
    });
}

#[test]
fn an_init_stopped_or_silent_at_any_step_is_given_up_and_leaves_nothing() {
    alone(async |census| {
        let brief = Duration::from_millis(300);
        let builder = builder().start_timeout(brief).reply_timeout(brief);
        let mut lives = sweep(Side::Init, Act::Stop, (0, 4), 16, &builder);
        lives.extend(sweep(Side::Init, Act::Silence, (2, 4), 16, &builder));
        census.is_back().await;
        assert!(lives.len() > 100, "{}", lives.len());
        for struck in &lives {
            assert!(struck.call == "recvmsg" || struck.life.errors().next().is_some(), "{struck:?}");
            for error in struck.life.errors() {
                let text = error.to_string();
                assert!(
                    text.contains("nothing within 300ms") || text.contains("owed an answer for 300ms"),
                    "{struck:?}"
                );
            }
            struck.check_that_all_are_told_the_same();
        }
        let steps: BTreeSet<_> =
            lives.iter().flat_map(|it| it.life.errors()).map(|it| format!("{:?}", it.step())).collect();
        for step in ["hello", "fork_pid1", "serve"] {
            assert!(steps.contains(&format!("{:?}", Some(step))), "{step:?} was waited for: {steps:?}");
        }
    });
}

/// A call that fails is told to whoever it fails, by its step and errno, and harms nobody else.
fn a_failing_call_is_told(side: Side, errno: i32, step: usize, at_least: usize) {
    alone(async |census| {
        let lives = sweep(side, Act::Fail(errno), (0, step), 2, &builder());
        census.is_back().await;
        assert!(lives.len() > at_least, "{}", lives.len());
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        for struck in &lives {
            let lost = struck.life.death.is_some();
            let (told, others): (Vec<_>, Vec<_>) = struck.life.errors().partition(|it| it.to_string().contains(&text));
            assert!(told.len() <= 1 || lost, "{struck:?}");
            assert!(told.iter().all(|it| it.step().is_some()), "{struck:?}");
            // What was not made cannot be read or deleted.
            assert!(others.iter().all(|it| it.raw_os_error() == Some(libc::ENOENT)), "{struck:?}");
            struck.check_that_all_are_told_the_same();
            if let (false, Some(end)) = (lost, &struck.life.end) {
                assert_eq!(end.kind(), ErrorKind::Destroyed, "{struck:?}");
            }
        }
        // The dynamic loader looks elsewhere, a descriptor to wait with can be done without, and so on.
        let untold: Vec<_> = lives.iter().filter(|it| it.life.errors().next().is_none()).map(|it| it.call).collect();
        // A group that has no memory for a moment is made again.
        let (retried, others): (Vec<&str>, Vec<&str>) =
            untold.iter().copied().partition(|call| side == Side::Host && errno == libc::ENOMEM && *call == "openat");
        assert!(others.len() < 12 && retried.len() < 40, "{untold:?}");
    });
}

#[test]
fn an_init_without_descriptors_at_any_step_says_so() {
    a_failing_call_is_told(Side::Init, libc::EMFILE, 1, 100);
}

#[test]
fn an_init_without_memory_at_any_step_says_so() {
    a_failing_call_is_told(Side::Init, libc::ENOMEM, 3, 70);
}

#[test]
fn an_init_without_space_at_any_step_says_so() {
    a_failing_call_is_told(Side::Init, libc::ENOSPC, 2, 40);
}

#[test]
fn a_host_without_descriptors_at_any_step_is_told_so() {
    a_failing_call_is_told(Side::Host, libc::EMFILE, 1, 20);
}

#[test]
fn a_host_without_memory_at_any_step_is_told_so() {
    a_failing_call_is_told(Side::Host, libc::ENOMEM, 1, 30);
}

/// No test of its own: what [`common::another_host`] runs in another process.
#[test]
fn another_host() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.as_str() {
        "live" => drop(live(&builder())),
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn a_host_killed_at_any_step_leaves_nothing() {
    alone(async |census| {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let live_with = |after| {
            let fault = Fault { side: Side::Both, act: Act::KillHost, after };
            injector::run(fault, Host::Process, || {
                let mut host = common::another_host("live", &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
                host.wait().unwrap()
            })
        };
        let unstruck = live_with(usize::MAX);
        assert!(unstruck.result.success() && unstruck.calls > 300, "the control: {unstruck:?}");
        let mut killed = 0;
        for after in (0..unstruck.calls).step_by(7) {
            // It returns when everything that the host had started is gone.
            let outcome = live_with(after);
            let Some(lingered) = outcome.lingered else { continue };
            assert!(outcome.result.signal() == Some(libc::SIGKILL) && lingered < SECOND, "{after}: {outcome:?}");
            killed += 1;
        }
        nix::sys::prctl::set_child_subreaper(false).unwrap();
        assert!(killed > 40, "{killed}");
        census.is_back().await;
    });
}
