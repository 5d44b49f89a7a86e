//! What a program beside another one cannot do, and what the main program can.

use std::time::{Duration, Instant};

use cellblock::{Process, Stdio, report::Cause, report::Status};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::common::{KILLED, SECOND, container, has_own_ids, processes_with, python, says};
use crate::{kill_running, sleeper};

/// Sends a signal to each process that it finds in proc, other than itself, by its pid and by the
/// directory of the process. Prints how many it could signal.
const SIGNALS: &str = "
import ctypes, os, platform, sys
signal, calls = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
own = int(os.readlink('/proc/self'))
found = sent = 0
for name in os.listdir('/proc'):
    if not name.isdigit() or int(name) == own: continue
    found += 1
    try: fd = os.open('/proc/' + name, os.O_DIRECTORY)
    except OSError: continue
    if calls.syscall(424, fd, signal, None, 0) == 0: sent += 1
for pid in range(2, 40000):
    if pid in (own, os.getpid()): continue
    try: os.kill(pid, signal)
    except OSError: continue
    sent += 1
print(found, sent)
";

fn signals(number: i32) -> cellblock::Command {
    let mut command = python(SIGNALS);
    command.arg(number.to_string());
    command
}

/// How many processes a program has found in proc, and how often it could signal one.
async fn found_and_sent(main: &Process, number: i32) -> (u32, u32) {
    let said = main.beside().output(signals(number)).await.unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let (found, sent) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{said:?}"));
    (found.parse().unwrap(), sent.parse().unwrap())
}

#[tokio::test]
async fn a_program_beside_another_one_signals_no_process_outside_its_namespace() {
    let container = container().await;
    let main = sleeper(&container).await;
    let other = main.beside().spawn(crate::common::sh("sleep 1000")).await.unwrap();
    let (found, _) = found_and_sent(&main, 0).await;
    assert!(found > 0, "it sees the others in proc");
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM, libc::SIGCHLD] {
        found_and_sent(&main, signal).await;
    }
    // pid 1 of its namespace, the reaper, takes no signal that would end it.
    let script = "import os, time\nfor s in range(1, 65):\n try: os.kill(1, s)\n except OSError: pass\n\
                  try: os.kill(-1, 9)\nexcept OSError: pass\nprint('survives')";
    let output = main.beside().output(python(script)).await.unwrap();
    assert!(
        output.stdout == b"survives\n" && output.report.status.success()
            // With the user of the reaper it may tell the reaper to end, and so ends itself.
            || !has_own_ids() && output.report.status == KILLED,
        "{output:?}"
    );
    kill_running(other).await;
    let report = kill_running(main).await;
    assert_eq!(report.cause, Cause::Request);

    // The control: the main program, whose namespace is above, can.
    let mut waiting = crate::common::sh("read line; exec \"$@\"");
    waiting.stdin(Stdio::piped()).stdout(Stdio::piped()).args(["sh", "/usr/bin/python3", "-Sc", SIGNALS, "9"]);
    let mut main = container.spawn(&waiting).await.unwrap();
    let mut victim = main.beside().spawn(crate::common::sh("sleep 1000")).await.unwrap();
    drop(main.stdin.take());
    let report = victim.wait().await.unwrap();
    assert_eq!((report.status, report.cause), (KILLED, Cause::Signal), "{report}");
    main.wait().await.unwrap();
    assert_eq!(says(&container, &crate::common::sh("echo well")).await, "well");
}

#[tokio::test]
async fn a_reaper_that_the_main_program_stops_still_ends_its_run() {
    let container = container().await;
    // With the user of the reaper, that is possible. It is stopped again and again.
    let stops = "import os\nprint('begun', flush=True)\nwhile True:\n for pid in range(2, 3000):\n  \
                 if pid != os.getpid():\n   try: os.kill(pid, 19)\n   except OSError: pass";
    let mut command = python(stops);
    command.stdout(Stdio::piped());
    let mut main = container.spawn(&command).await.unwrap();
    let mut beside = main.beside().spawn(crate::common::sh("sleep 1000")).await.unwrap();
    let mut lines = BufReader::new(main.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("begun"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    let report = beside.kill().await.unwrap();
    assert_eq!((report.status, report.cause), (KILLED, Cause::Request), "{report}");
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
    kill_running(main).await;
}

#[tokio::test]
async fn a_program_that_is_stopped_before_it_executes_holds_nothing_up() {
    let container = container().await;
    // It may have the id of the main program by then.
    let stops = "import os\nprint('begun', flush=True)\nlast = 2\nwhile True:\n for pid in range(last, last + 20):\n  \
                 if pid != os.getpid():\n   try:\n    os.kill(pid, 19)\n    last = pid\n   except OSError: pass";
    let mut command = python(stops);
    command.stdout(Stdio::piped());
    let mut main = container.spawn(&command).await.unwrap();
    let mut lines = BufReader::new(main.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("begun"));
    for _ in 0..100 {
        kill_running(main.beside().spawn(crate::common::sh("sleep 1000")).await.unwrap()).await;
    }
    kill_running(main).await;
}

#[tokio::test]
async fn a_program_makes_and_enters_no_pid_namespace() {
    let script = "
import ctypes, errno, os
calls = ctypes.CDLL(None, use_errno=True)
def attempt(name, *args):
    print(name, 'works' if getattr(calls, name)(*args) == 0 else errno.errorcode[ctypes.get_errno()])
attempt('unshare', 0x20000000)
attempt('setns', os.open('/proc/self/ns/pid', os.O_RDONLY), 0x20000000)
attempt('setns', os.pidfd_open(os.getpid()), 0x20000000)
";
    let refused = "unshare EPERM\nsetns EPERM\nsetns EPERM";
    let container = container().await;
    assert_eq!(says(&container, &python(script)).await, refused);
    let main = sleeper(&container).await;
    let output = main.beside().output(python(script)).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), refused);
    kill_running(main).await;
    if !crate::common::is_root() {
        return;
    }
    let control = std::process::Command::new("/usr/bin/python3").args(["-Sc", script]).output().unwrap();
    assert_eq!(String::from_utf8(control.stdout).unwrap().trim_end(), "unshare works\nsetns works\nsetns works");
}

#[tokio::test]
async fn a_storm_of_orphans_ends_with_its_run() {
    let container = container().await;
    let main = sleeper(&container).await;
    let storm = "import os\nfor _ in range(300):\n if os.fork() == 0:\n  if os.fork() == 0: os._exit(0)\n  os._exit(0)\n\
                 for _ in range(20):\n if os.fork() == 0:\n  os.setsid()\n  while True: pass\nos._exit(5)";
    let mut command = python(storm);
    command.limits(cellblock::Limits::new().allow_weaker(true).processes(u32::MAX));
    command.arg("storm 5401");
    let report = main.beside().run(command).await.unwrap();
    assert_eq!(report.status, Status::Exited(5), "{report}");
    assert_eq!(processes_with("storm 5401"), [0_u32; 0]);
    kill_running(main).await;
}
