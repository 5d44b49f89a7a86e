//! The end of a container: destroyed, dropped, killed, silent, or without its host.

use std::time::{Duration, Instant};

use cellblock::{Command, Container, ContainerBuilder, ErrorKind, Stdio, container::OpenFile, report::Status};
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{SECOND, alone, builder, children, container, eventually, is_lost, processes_with, read_up_to, sh};

/// A container and the pid of its init.
async fn with_init(builder: ContainerBuilder) -> (Container, Pid) {
    let before = children();
    let container = builder.build().await.unwrap();
    let new: Vec<_> = children().difference(&before).copied().collect();
    assert_eq!(new.len(), 1, "a container is one child, and stage one is reaped");
    (container, Pid::from_raw(new[0] as i32))
}

#[test]
fn destroy_returns_when_the_init_is_reaped() {
    alone(async |snapshot| {
        let (container, _) = with_init(builder()).await;
        container.destroy().await;
        assert_eq!(crate::common::LeakSnapshot::take(), snapshot, "at once");
        container.destroy().await;
        for error in [
            container.ping(SECOND).await.unwrap_err(),
            container.run(&Command::new("true")).await.unwrap_err(),
            container.spawn(&Command::new("true")).await.unwrap_err(),
            container.open([OpenFile::read("f")]).await.unwrap_err(),
            container.reset().await.unwrap_err(),
            container.delete("f").await.unwrap_err(),
            container.death().await,
        ] {
            assert_eq!(error.kind(), ErrorKind::Destroyed);
            assert!(!error.is_retryable());
        }
    });
}

#[test]
fn destroy_overtakes_running_and_queued_runs() {
    alone(async |snapshot| {
        let container = container().await;
        let mut process = container.spawn(&sh("sleep 60")).await.unwrap();
        let (forever, then) = (sh("sleep 60"), sh(":"));
        let waiting = join_all([container.run(&forever), container.run(&then)]);
        let start = Instant::now();
        let (results, (), reset) = tokio::join!(waiting, container.destroy(), container.reset());
        assert!(start.elapsed() < 5 * SECOND);
        assert!(results.into_iter().all(|result| result.unwrap_err().kind() == ErrorKind::Destroyed));
        assert_eq!(reset.unwrap_err().kind(), ErrorKind::Destroyed);
        assert_eq!(process.wait().await.unwrap_err().kind(), ErrorKind::Destroyed);
        drop(process);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_dropped_handle_destroys_its_container() {
    alone(async |snapshot| {
        let container = container().await;
        let process = container.clone().spawn(&sh("sleep 60")).await.unwrap();
        drop(container);
        assert_ne!(crate::common::LeakSnapshot::take(), snapshot, "a process keeps its container");
        drop(process);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_runtime_dropped_at_any_time_leaves_nothing() {
    alone(async |snapshot| {
        for micros in (0..6000).step_by(200) {
            let host = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let work = async {
                    let container = container().await;
                    container.run(&sh("sleep 60")).await
                };
                let _entered = runtime.enter();
                drop(runtime.block_on(async { tokio::time::timeout(Duration::from_micros(micros), work).await }));
            };
            std::thread::spawn(host).join().unwrap();
        }
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_handle_that_outlives_its_runtime_returns_lost() {
    alone(async |snapshot| {
        let build = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(container())
        };
        let container = std::thread::spawn(build).join().unwrap();
        let error = container.ping(SECOND).await.unwrap_err();
        assert!(is_lost(&error), "{error}");
        drop(container);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_killed_init_fails_every_call_with_the_same_error() {
    alone(async |snapshot| {
        let (container, init) = with_init(builder()).await;
        let mut process = container.spawn(&sh("sleep 60")).await.unwrap();
        kill(init, Signal::SIGKILL).unwrap();
        let error = process.wait().await.unwrap_err();
        assert!(is_lost(&error), "{error}");
        let errors =
            [container.death().await, container.ping(SECOND).await.unwrap_err(), process.wait().await.unwrap_err()];
        assert!(errors.iter().all(|it| it.to_string() == error.to_string()));
        container.destroy().await;
        drop((container, process));
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_stopped_init_is_lost_after_the_reply_timeout() {
    alone(async |snapshot| {
        let (container, init) = with_init(builder().reply_timeout(Duration::from_millis(300))).await;
        kill(init, Signal::SIGSTOP).unwrap();
        let start = Instant::now();
        let error = container.ping(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Timeout, Some("ping")));
        assert!(error.is_retryable());
        let error = container.delete("f").await.unwrap_err();
        assert!(is_lost(&error), "{error}");
        assert!((300..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        drop(container);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_reply_timeout_may_be_infinite() {
    alone(async |_| {
        let container = builder().reply_timeout(Duration::MAX).build().await.unwrap();
        container.ping(10 * SECOND).await.unwrap();
        assert_eq!(container.run(&sh("exit 3")).await.unwrap().status, Status::Exited(3));
    });
}

#[test]
fn a_container_whose_run_cannot_be_killed_in_time_is_lost() {
    alone(async |snapshot| {
        let (container, init) = with_init(builder().reply_timeout(Duration::from_millis(200))).await;
        let mut process = container.spawn(&sh("sleep 60")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        container.ping(SECOND).await.expect("a running program has no reply timeout");
        kill(init, Signal::SIGSTOP).unwrap();
        assert!(is_lost(&process.kill().await.unwrap_err()));
        drop((container, process));
        snapshot.assert_restored().await;
    });
}

/// The part of the other process.
pub fn play(role: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let container = container().await;
        match role {
            "ignoring SIGCHLD" => {
                assert!(container.run(&sh(":")).await.unwrap().status.success());
                container.destroy().await;
                assert!(children().is_empty());
                println!("fine");
            }
            mark => {
                let mut command = sh(&format!("echo ready; sleep 60; : {mark}"));
                let mut process = container.spawn(command.stdout(Stdio::inherit())).await.unwrap();
                process.wait().await.unwrap();
            }
        }
    });
}

#[test]
fn a_host_killed_during_a_run_leaves_nothing() {
    alone(async |snapshot| {
        let mark = format!("orphaned{}", std::process::id());
        let mut host = crate::common::another_host(&format!("ends/{mark}"), &[]).spawn().unwrap();
        read_up_to("ready", &mut host);
        let lists = std::fs::read_dir(format!("/proc/{}/task", host.id())).unwrap();
        let inits: String =
            lists.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap()).collect();
        let inits: Vec<_> = inits.split_whitespace().map(str::to_owned).collect();
        assert_eq!(inits.len(), 1);
        host.kill().unwrap();
        host.wait().unwrap();
        drop(host);
        let start = Instant::now();
        // The init has a new parent, which may not have reaped it yet.
        let is_gone = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        eventually("all are dead", || processes_with(&mark).is_empty() && inits.iter().all(is_gone)).await;
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_host_that_ignores_sigchld_is_served() {
    alone(async |snapshot| {
        let ignoring = ["/bin/sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"];
        let mut host = crate::common::another_host("ends/ignoring SIGCHLD", &ignoring).spawn().unwrap();
        read_up_to("fine", &mut host);
        assert!(host.wait().unwrap().success());
        drop(host);
        snapshot.assert_restored().await;
    });
}
