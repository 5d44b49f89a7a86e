//! Programs that take all the processor time there is until they are killed.
//!
//! They would slow other tests down, so they are in the suite whose tests run one at a time.

use cellblock::{Stdio, limits::Resource};
use tokio::io::AsyncReadExt;

use crate::common::{KILLED, alone, container, is_root, processes_with, python, says, sh};

#[test]
fn a_killed_fork_bomb_ends_and_its_container_serves() {
    alone(async |_| {
        let container = container().await;
        let mark = format!("bomb{}", std::process::id());
        let bomb =
            format!("import os # {mark}\nwhile True:\n  try:\n    os.fork(); os.setsid()\n  except OSError: pass");
        let mut command = python(&bomb);
        if is_root() {
            // The container has its own ids, so the kernel counts only its processes.
            command.rlimit(Resource::Processes, 100, 100);
        } else {
            let own = processes_with("").len() as u64 + 100;
            command.rlimit(Resource::Processes, own, own);
        }
        for _ in 0..3 {
            let mut process = container.spawn(&command).await.unwrap();
            crate::common::eventually("the bomb has gone off", || processes_with(&mark).len() > 50).await;
            assert_eq!(process.kill().await.unwrap().status, KILLED);
            assert_eq!(processes_with(&mark), [0; 0]);
            assert_eq!(says(&container, &sh("echo well")).await, "well");
        }
    });
}

#[test]
fn programs_that_resist_signals_end_when_killed() {
    alone(async |_| {
        let container = container().await;
        for stubborn in [
            "import signal
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
print('ready', flush=True)
while True: pass",
            "import os; print('ready', flush=True); os.kill(os.getpid(), 19)",
            "import threading, ctypes
print('ready', flush=True)
def spin():
    while True: pass
threading.Thread(target=spin).start()
ctypes.CDLL(None).syscall(60, 0)",
        ] {
            let mut process = container.spawn(python(stubborn).stdout(Stdio::piped())).await.unwrap();
            process.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).await.unwrap();
            assert_eq!(process.kill().await.unwrap().status, KILLED);
        }
        assert_eq!(says(&container, &sh("echo well")).await, "well");
    });
}
