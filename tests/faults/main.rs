//! Faults at every step of a container's life: each is reported to the caller, and nothing is left.
//!
//! A suite by itself, because its processes run under a seccomp filter, and because a test makes
//! this process a subreaper. The tests compare what the process has before and after, so they run
//! one at a time.
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

/// The results of all calls on a container, from its build to its end.
#[derive(Debug)]
struct Life {
    /// The calls and their results, in order.
    answers: Vec<(&'static str, Result<()>)>,
    /// The reason of its end, if it ended before it was destroyed.
    death: Option<Error>,
    /// The reason of its end after it was destroyed.
    end: Option<Error>,
}

impl Life {
    fn errors(&self) -> impl Iterator<Item = &Error> {
        self.answers.iter().filter_map(|(_, answer)| answer.as_ref().err())
    }
}

/// Builds, uses and destroys a container, on a new runtime.
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
        let files = ["g", "h", "i/j/k"].map(|name| OpenFile::write(name).create_parents());
        let (program, shell) = (Command::new("/bin/true"), sh("echo hi"));
        life.answers.extend([
            ("ping", container.ping(5 * SECOND).await),
            ("write", container.write("f", *b"text").await),
            ("read", container.read("f", 100).await.map(drop)),
            ("open", container.open(files).await.and_then(all)),
            ("symlink", container.symlink([("f", "l")]).await.and_then(|results| results.into_iter().collect())),
            ("delete", container.delete("g").await),
            ("run", in_time(&container, container.run(&program)).await.map(drop)),
            ("output", in_time(&container, container.output(&shell)).await.map(drop)),
            ("reset", container.reset().await),
            // A container is usable after a fault that passes.
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

/// Drops a run that takes too long: a run has no reply timeout until it is killed.
async fn in_time<T>(container: &Container, run: impl Future<Output = Result<T>>) -> Result<()> {
    match tokio::time::timeout(SECOND, run).await {
        Ok(result) => result.map(drop),
        Err(_) => container.ping(5 * SECOND).await,
    }
}

/// A life with a fault.
#[derive(Debug)]
struct Struck {
    fault: Fault,
    /// The call at which the fault struck.
    call: &'static str,
    /// The file that the call names, if it is an `openat`.
    file: Option<String>,
    life: Life,
}

/// Lives many times, in several threads, with the fault at a different call each time: at call
/// `from` and then at every `step`th. Returns the lives that a fault struck.
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
        outcome.struck.map(|call| Struck { fault, call, file: outcome.file, life: outcome.result })
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
    // The number of calls varies, so the last places may not be reached.
    assert!(lives.len() > places.len() * 3 / 4, "{} of {}", lives.len(), places.len());
    lives
}

impl Struck {
    /// Asserts that every call on a lost container fails with the same reason, and no earlier call
    /// does.
    fn assert_one_reason_for_all_calls(&self) {
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
    alone(async |snapshot| {
        let lives = sweep(Side::Init, Act::Kill, (0, 1), 2, &builder());
        snapshot.assert_restored().await;
        assert!(lives.len() > 200, "{}", lives.len());
        for struck in &lives {
            // Stage one exits after its work is done, and pid 1 may wait for a request that never
            // comes.
            let may_be_missed = ["exit_group", "recvmsg"].contains(&struck.call);
            assert!(may_be_missed || struck.life.errors().next().is_some(), "{struck:?}");
            for error in struck.life.errors() {
                let is_fit = matches!(error.kind(), ErrorKind::Build | ErrorKind::Lost);
                assert!(is_fit && error.to_string().contains("the init ended"), "{struck:?}");
            }
            struck.assert_one_reason_for_all_calls();
        }
    });
}

#[test]
fn an_init_stopped_or_silent_at_any_step_times_out_and_leaves_nothing() {
    alone(async |snapshot| {
        let brief = Duration::from_millis(300);
        let builder = builder().start_timeout(brief).reply_timeout(brief);
        let mut lives = sweep(Side::Init, Act::Stop, (0, 4), 16, &builder);
        lives.extend(sweep(Side::Init, Act::Silence, (2, 4), 16, &builder));
        snapshot.assert_restored().await;
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
            struck.assert_one_reason_for_all_calls();
        }
        let steps: BTreeSet<_> =
            lives.iter().flat_map(|it| it.life.errors()).map(|it| format!("{:?}", it.step())).collect();
        for step in ["hello", "fork_pid1", "serve"] {
            assert!(steps.contains(&format!("{:?}", Some(step))), "{step:?} was waited for: {steps:?}");
        }
    });
}

/// Asserts that a failing call is reported by step and errno to the caller that it fails, and to no
/// other.
fn assert_a_failing_call_is_reported(side: Side, errno: i32, step: usize, at_least: usize) {
    alone(async |snapshot| {
        let lives = sweep(side, Act::Fail(errno), (0, step), 2, &builder());
        snapshot.assert_restored().await;
        assert!(lives.len() > at_least, "{}", lives.len());
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        for struck in &lives {
            let lost = struck.life.death.is_some();
            let (reported, others): (Vec<_>, Vec<_>) =
                struck.life.errors().partition(|it| it.to_string().contains(&text));
            assert!(reported.len() <= 1 || lost, "{struck:?}");
            assert!(reported.iter().all(|it| it.step().is_some()), "{struck:?}");
            // A file that was not made cannot be read or deleted.
            assert!(others.iter().all(|it| it.raw_os_error() == Some(libc::ENOENT)), "{struck:?}");
            struck.assert_one_reason_for_all_calls();
            if let (false, Some(end)) = (lost, &struck.life.end) {
                assert_eq!(end.kind(), ErrorKind::Destroyed, "{struck:?}");
            }
        }
        let unreported: Vec<_> = lives.iter().filter(|it| it.life.errors().next().is_none()).collect();
        let (of_groups, others): (Vec<_>, Vec<_>) = unreported.into_iter().partition(|it| it.is_of_a_group());
        // What cannot be listed is left out of the default world, as what the host lacks.
        let others: Vec<_> = others.into_iter().filter(|it| !it.lists_settings()).collect();
        // Some failures are harmless: the dynamic loader looks elsewhere, waiting works without a
        // descriptor, a reset replaces a tmpfs whose state it cannot read, and so on.
        assert!(others.len() < 20, "{others:?}");
        // The group is prepared ahead of a run. If that fails, or the kernel has no memory, it is
        // prepared again for the run.
        let prepared = of_groups.iter().filter(|it| it.prepares_a_group()).step_by(5);
        prepared.for_each(|struck| struck.assert_reported_if_it_lasts(errno));
    });
}

impl Struck {
    /// Whether the call opens a group, a file of it, or the number of all groups.
    fn is_of_a_group(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.contains("/cellblock-runs-") || file == "/proc/cgroups")
    }

    /// Whether the call opens a directory in which the default world looks for versions of Java and
    /// PHP.
    fn lists_settings(&self) -> bool {
        matches!(self.file.as_deref(), Some("/etc" | "/etc/php"))
    }

    /// Whether the preparation of a group needs the call.
    fn prepares_a_group(&self) -> bool {
        self.file.as_ref().and_then(|file| file.split_once("/cellblock-runs-")).is_some_and(|(_, it)| it.contains('/'))
    }

    /// Lives again with a fault that does not pass. Asserts that a run gets it.
    fn assert_reported_if_it_lasts(&self, errno: i32) {
        let fault = Fault { act: Act::KeepFailing(errno), ..self.fault };
        let life = injector::run(fault, Host::Thread, || live(&builder())).result;
        let runs = life.answers.iter().filter(|(call, _)| ["run", "output"].contains(call));
        let mut errors = runs.filter_map(|(_, answer)| answer.as_ref().err());
        assert!(errors.any(|error| error.raw_os_error() == Some(errno)), "{self:?} {life:?}");
    }
}

#[test]
fn an_init_without_descriptors_at_any_step_reports_it() {
    assert_a_failing_call_is_reported(Side::Init, libc::EMFILE, 1, 100);
}

#[test]
fn an_init_without_memory_at_any_step_reports_it() {
    assert_a_failing_call_is_reported(Side::Init, libc::ENOMEM, 3, 70);
}

#[test]
fn an_init_without_space_at_any_step_reports_it() {
    assert_a_failing_call_is_reported(Side::Init, libc::ENOSPC, 2, 40);
}

#[test]
fn a_host_without_descriptors_at_any_step_gets_the_error() {
    assert_a_failing_call_is_reported(Side::Host, libc::EMFILE, 1, 20);
}

#[test]
fn a_host_without_memory_at_any_step_gets_the_error() {
    assert_a_failing_call_is_reported(Side::Host, libc::ENOMEM, 1, 30);
}

/// Not a test: the part that [`common::another_host`] runs in another process.
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
    alone(async |snapshot| {
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
            // Returns when all processes of the host are gone.
            let outcome = live_with(after);
            let Some(lingered) = outcome.lingered else { continue };
            assert!(outcome.result.signal() == Some(libc::SIGKILL) && lingered < SECOND, "{after}: {outcome:?}");
            killed += 1;
        }
        nix::sys::prctl::set_child_subreaper(false).unwrap();
        assert!(killed > 40, "{killed}");
        snapshot.assert_restored().await;
    });
}
