//! The life of a run: its place in the queue, its end, its report, and dropped futures.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cellblock::{Command, ErrorKind, Stdio, limits::Resource, report::Status};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::common::{KILLED, container, eventually, is_root, processes_with, python, says, sh};

#[tokio::test]
async fn a_report_has_the_status_and_the_usage_of_the_run() {
    let container = container().await;
    let ended = async |script: &str| container.run(&sh(script)).await.unwrap().status;
    assert_eq!(ended("exit 7").await, Status::Exited(7));
    assert_eq!(ended("kill -9 $$").await, KILLED);
    assert_eq!(ended("kill -SEGV $$").await, Status::Signaled { signal: 11, core_dumped: false });
    let busy = python(
        "import os, time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
held = b'x' * 50_000_000
os.wait(); time.sleep(0.1)",
    );
    let usage = container.run(&busy).await.unwrap().usage;
    let cpu = usage.user.unwrap() + usage.system.unwrap();
    assert!(cpu >= Duration::from_millis(300), "the time of the child counts: {cpu:?}");
    assert!(usage.wall.unwrap() >= Duration::from_millis(100), "{usage:?}");
    assert!(usage.memory_peak_bytes.unwrap() > 50_000_000, "{usage:?}");
    let small = container.run(&sh(":")).await.unwrap().usage;
    assert!(small.memory_peak_bytes.unwrap() < 20_000_000, "a peak does not carry over: {small:?}");
}

#[tokio::test]
async fn orphans_are_counted_and_reaped_when_they_die() {
    let container = container().await;
    // Two hundred orphans under a limit of thirty processes: the init must reap each soon.
    let orphans = "import os, time
for _ in range(200):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.001); os._exit(0)
        os._exit(0)
    os.wait(); time.sleep(0.002)
print('done')";
    let mut command = python(orphans);
    if is_root() {
        command.rlimit(Resource::Processes, 30, 30);
    }
    assert_eq!(says(&container, &command).await, "done");
    // The program waits until its grandchild exits and so closes the pipe.
    let burn = "import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.3: pass
        os._exit(0)
    os._exit(0)
os.close(writer); os.wait(); os.read(reader, 1)";
    let usage = container.run(&python(burn)).await.unwrap().usage;
    assert!(usage.user.unwrap() + usage.system.unwrap() >= Duration::from_millis(300), "{usage:?}");
}

#[tokio::test]
async fn a_run_ends_when_all_its_processes_are_dead() {
    let container = container().await;
    let mark = format!("mark{}", std::process::id());
    let daemons = format!(
        "for i in 1 2 3; do setsid sh -c 'trap \"\" HUP TERM INT; while :; do sleep 1; done # {mark}' & done; echo started"
    );
    let start = Instant::now();
    // A grandchild holds the output open. The output ends at once all the same.
    assert_eq!(says(&container, &sh(&daemons)).await, "started");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(processes_with(&mark).is_empty());
    let mut process = container.spawn(&sh(&format!("{daemons}; sleep 60"))).await.unwrap();
    eventually("the daemons run", || processes_with(&mark).len() > 3).await;
    assert_eq!(process.kill().await.unwrap().status, KILLED);
    assert!(processes_with(&mark).is_empty());
}

#[tokio::test]
async fn a_dropped_process_is_killed_and_the_next_run_goes_on() {
    let container = container().await;
    let mark = format!("dropped{}", std::process::id());
    let process = container.spawn(&sh(&format!("sleep 60 # {mark}"))).await.unwrap();
    drop(process);
    assert_eq!(says(&container, &sh("echo next")).await, "next");
    assert!(processes_with(&mark).is_empty());
}

#[tokio::test]
async fn a_process_has_its_id_on_the_host_until_it_is_waited_for() {
    let container = container().await;
    let (seen, mut hooked) = (Arc::new(AtomicU32::new(0)), sh("echo $$; sleep 60"));
    let sees = Arc::clone(&seen);
    hooked.pid_hook(move |pid, _| {
        sees.store(pid, Ordering::Relaxed);
        async { Ok(()) }
    });
    for mut command in [sh("echo $$; sleep 60"), hooked] {
        let mut process = container.spawn(command.stdout(Stdio::piped())).await.unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let inside = lines.next_line().await.unwrap().unwrap();
        let pid = process.id().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
        assert_eq!(pids.split_whitespace().last(), Some(&*inside), "{pids}");
        assert!([0, pid].contains(&seen.load(Ordering::Relaxed)), "the id that the hook sees");
        assert_eq!(process.kill().await.unwrap().status, KILLED);
        assert_eq!(process.id(), None);
    }
}

#[tokio::test]
async fn try_wait_returns_the_report_once_the_run_is_over() {
    let container = container().await;
    let mut process = container.spawn(sh("read line; exit 3").stdin(Stdio::piped())).await.unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    assert!(process.stdin.is_some() && process.id().is_some());
    drop(process.stdin.take());
    eventually("the program exits", || process.try_wait().unwrap().is_some()).await;
    let report = process.try_wait().unwrap().unwrap();
    assert_eq!(report.status, Status::Exited(3));
    assert_eq!((process.id(), process.wait().await.unwrap()), (None, report));

    let mut process = container.spawn(&sh("sleep 60")).await.unwrap();
    container.destroy().await;
    assert_eq!(process.try_wait().unwrap_err().kind(), ErrorKind::Destroyed);
    assert_eq!(process.wait().await.unwrap_err().kind(), ErrorKind::Destroyed);
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_an_error_of_wait_and_not_of_spawn() {
    let container = container().await;
    // The init refuses the empty name before it makes a process.
    for program in ["/none", ""] {
        let mut process = container.spawn(&Command::new(program)).await.unwrap();
        let error = process.wait().await.unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)), "{error}");
        assert_eq!(process.id(), None);
    }
}

#[tokio::test]
async fn a_queued_run_whose_future_is_dropped_never_starts() {
    let container = container().await;
    let mut first = container.spawn(&sh("sleep 60")).await.unwrap();
    {
        let command = sh("echo started > f");
        let mut queued = Box::pin(container.run(&command));
        assert!(futures::poll!(queued.as_mut()).is_pending());
        // The ping follows the run in the mailbox, so its answer shows that the run is queued.
        container.ping(Duration::from_secs(1)).await.unwrap();
    }
    first.kill().await.unwrap();
    assert_eq!(says(&container, &sh("ls")).await, "");
}

#[tokio::test]
async fn queued_runs_start_in_order() {
    let container = container().await;
    let commands: Vec<_> = (0..20).map(|number| sh(&format!("echo {number} >> order"))).collect();
    let reports = futures::future::join_all(commands.iter().map(|command| container.run(command))).await;
    assert!(reports.iter().all(|report| report.as_ref().unwrap().status.success()));
    let order: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(says(&container, &sh("cat order")).await, order.join("\n"));
}

#[tokio::test]
async fn a_late_kill_does_not_kill_the_next_run() {
    let container = container().await;
    for _ in 0..200 {
        let mut process = container.spawn(&Command::new("/bin/true")).await.unwrap();
        process.start_kill();
        let next = container.run(&Command::new("/bin/true")).await.unwrap();
        assert!(next.status.success(), "{}", next.status);
        let first = process.wait().await.unwrap().status;
        assert!(first.success() || first == KILLED, "{first}");
    }
}

#[tokio::test]
async fn a_run_dropped_at_any_poll_leaves_a_usable_container() {
    let container = container().await;
    let command = sh("echo hi; sleep 0.01");
    let mut completed = false;
    for polls in 0.. {
        let mut future = Box::pin(container.output(&command));
        for _ in 0..polls {
            if futures::poll!(future.as_mut()).is_ready() {
                completed = true;
                break;
            }
            // Lets the actor and the program make progress.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(future);
        container.ping(Duration::from_secs(5)).await.unwrap();
        assert_eq!(says(&container, &sh("echo usable")).await, "usable");
        if completed {
            break;
        }
    }
}

#[tokio::test]
async fn a_short_program_is_reported_although_the_host_is_slow_to_read() {
    let container = container().await;
    // The init announces the process and reports its end while this thread is blocked.
    let slow = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let command = Command::new("/bin/true");
    let (process, ()) = tokio::join!(container.spawn(&command), slow);
    let mut process = process.unwrap();
    let report = tokio::time::timeout(Duration::from_secs(5), process.wait()).await.expect("a report");
    assert!(report.unwrap().status.success());
}
