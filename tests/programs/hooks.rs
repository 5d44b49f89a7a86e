//! The pid hook: it sees the process before the program starts, can refuse it, and delays only its
//! own run.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cellblock::{Command, ErrorKind, report::Status};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::common::{container, says, sh};

/// The value of a line of `/proc/PID/status`.
fn status_line(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(':').trim().to_owned()
}

#[tokio::test]
async fn a_hook_sees_the_process_that_becomes_the_program() {
    let container = container().await;
    let seen = Arc::new(Mutex::new(None));
    let mut command = sh("echo $$; touch ran");
    let (sees, before) = (Arc::clone(&seen), container.clone());
    command.pid_hook(move |pid, pidfd| {
        let (sees, container) = (Arc::clone(&sees), before.clone());
        async move {
            let info =
                fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd.as_fd())))?;
            assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
            let nothing = container.read("ran", 1).await.unwrap_err();
            assert_eq!(nothing.raw_os_error(), Some(libc::ENOENT), "the program has not begun");
            *sees.lock().unwrap() = Some((status_line(pid, "Name"), status_line(pid, "NSpid")));
            Ok(())
        }
    });
    let inside = says(&container, &command).await;
    let (name, pids) = seen.lock().unwrap().take().unwrap();
    assert_eq!(name, "cellblock-init", "nothing is executed yet");
    assert_eq!(pids.split_whitespace().last(), Some(&*inside));
    container.read("ran", 1).await.unwrap();
}

#[tokio::test]
async fn a_hooks_change_to_the_process_applies_to_the_program() {
    if sched_getaffinity(Pid::from_raw(0)).map(count).unwrap() < 2 {
        crate::common::lacks("a second processor");
        return;
    }
    let container = container().await;
    let mut command = Command::new("/usr/bin/nproc");
    assert_ne!(says(&container, &command).await, "1", "the control: without a hook it has all processors");
    command.pid_hook(|pid, _| async move {
        let mut first = CpuSet::new();
        first.set(0)?;
        Ok(sched_setaffinity(Pid::from_raw(pid as i32), &first)?)
    });
    assert_eq!(says(&container, &command).await, "1");
}

fn count(cpus: CpuSet) -> usize {
    (0..CpuSet::count()).filter(|&cpu| cpus.is_set(cpu).unwrap()).count()
}

#[tokio::test]
async fn a_refused_program_never_runs() {
    let container = container().await;
    let mut command = sh("touch ran");
    command.pid_hook(|_, _| async { Err(io::Error::other("no group is free")) });
    let error = container.run(&command).await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Exec, Some("pid_hook")));
    assert!(error.to_string().contains("no group is free"), "{error}");
    let error = container.spawn(&command).await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Exec, Some("pid_hook")));
    command.pid_hook(|_, _| async { Err(io::Error::from_raw_os_error(libc::EBUSY)) });
    let error = container.output(&command).await.unwrap_err();
    assert_eq!((error.step(), error.raw_os_error()), (Some("pid_hook"), Some(libc::EBUSY)));
    assert_eq!(says(&container, &sh("ls")).await, "");
}

#[tokio::test]
async fn a_container_serves_while_a_hook_decides() {
    let container = container().await;
    let (decide, decision) = oneshot::channel::<()>();
    let decision = Arc::new(Mutex::new(Some(decision)));
    let mut command = sh("cat file");
    command.pid_hook(move |_, _| {
        let decision = decision.lock().unwrap().take().unwrap();
        async { decision.await.map_err(io::Error::other) }
    });
    let (held, ()) = tokio::join!(container.output(&command), async {
        container.ping(Duration::from_secs(5)).await.unwrap();
        container.write("file", "written meanwhile").await.unwrap();
        decide.send(()).unwrap();
    });
    assert_eq!(held.unwrap().stdout, b"written meanwhile");
}

#[tokio::test]
async fn a_future_dropped_while_its_hook_decides_ends_its_run() {
    let container = container().await;
    for _ in 0..20 {
        let (shown, is_shown) = oneshot::channel();
        let shown = Arc::new(Mutex::new(Some(shown)));
        let mut command = sh("touch ran");
        command.pid_hook(move |_, _| {
            shown.lock().unwrap().take().unwrap().send(()).unwrap();
            std::future::pending()
        });
        tokio::select! {
            _ = container.run(&command) => unreachable!("it is held"),
            shown = is_shown => shown.unwrap(),
        }
        assert_eq!(says(&container, &sh("ls")).await, "", "the next run starts");
    }
}

#[tokio::test]
async fn a_hook_that_panics_fails_only_its_own_caller() {
    let container = container().await;
    let mut command = sh("touch ran");
    command.pid_hook(|_, _| async { panic!("on purpose") });
    let caller = container.clone();
    assert!(tokio::spawn(async move { caller.run(&command).await }).await.unwrap_err().is_panic());
    assert_eq!(says(&container, &sh("ls")).await, "");
}

#[tokio::test]
async fn a_container_destroyed_while_a_hook_decides_fails_the_call() {
    let container = container().await;
    let mut command = Command::new("/bin/true");
    let ends = container.clone();
    command.pid_hook(move |_, _| {
        let container = ends.clone();
        async move {
            tokio::spawn(async move { container.destroy().await });
            std::future::pending().await
        }
    });
    assert_eq!(container.spawn(&command).await.unwrap_err().kind(), ErrorKind::Destroyed);
}

#[tokio::test]
async fn a_hook_may_kill_its_process() {
    let container = container().await;
    let mut command = sh("touch ran");
    command.pid_hook(|pid, _| async move {
        nix::sys::signal::kill(Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)?;
        Ok(())
    });
    let report = container.run(&command).await.unwrap();
    assert_eq!(report.status, Status::Signaled { signal: 9, core_dumped: false });
    assert_eq!(says(&container, &sh("ls")).await, "");
}
