//! Runs beside another one leave nothing, however they end.

use std::time::{Duration, Instant};

use cellblock::{Container, ErrorKind, Process};

use crate::common::{SECOND, alone, another_host, container, eventually, polled, processes_with, read_up_to, sh, turn};

async fn sleeper(container: &Container) -> Process {
    container.spawn(&sh("sleep 1000")).await.unwrap()
}

#[test]
fn a_dropped_run_dies_alone() {
    alone(async |before| {
        let container = container().await;
        let main = sleeper(&container).await;
        let beside = main.beside().spawn(sh("sleep 4901")).await.unwrap();
        drop(beside);
        eventually("a dropped process is dead", || processes_with("sleep 4901").is_empty()).await;
        for times in 0..30 {
            let handle = main.beside();
            polled(times, handle.run(sh("sleep 4901"))).await;
            drop(polled(times, handle.spawn(sh("sleep 4901"))).await);
            polled(times, handle.output(sh("echo x; sleep 4901"))).await;
        }
        eventually("dropped futures leave no process", || processes_with("sleep 4901").is_empty()).await;
        drop(main);
        container.destroy().await;
        before.assert_restored().await;
    });
}

#[test]
fn a_destroyed_container_ends_all() {
    alone(async |before| {
        for waits in [0, 30] {
            let container = container().await;
            let mut main = sleeper(&container).await;
            let mut beside = main.beside().spawn(sh("(setsid sleep 5001 &) ; sleep 5001")).await.unwrap();
            let starting: Vec<_> = (0..5)
                .map(|_| {
                    let handle = main.beside();
                    tokio::spawn(async move { handle.run(sh("sleep 5001")).await })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(waits)).await;
            container.destroy().await;
            assert_eq!(processes_with("sleep 5001"), [0_u32; 0]);
            assert_eq!(beside.wait().await.unwrap_err().kind(), ErrorKind::Destroyed);
            assert_eq!(main.wait().await.unwrap_err().kind(), ErrorKind::Destroyed);
            for task in starting {
                assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Destroyed);
            }
            drop((main, beside, container));
        }
        before.assert_restored().await;
    });
}

#[test]
fn nothing_outlives_the_host() {
    let _turn = turn();
    let mut host = another_host("beside/dies", &[]).spawn().unwrap();
    read_up_to("running", &mut host);
    // A process that is being executed has no arguments for a moment.
    let end = Instant::now() + SECOND;
    while processes_with("sleep 5201").len() != 3 {
        assert!(Instant::now() < end, "the control");
        std::thread::sleep(Duration::from_millis(5));
    }
    host.kill().unwrap();
    host.wait().unwrap();
    let end = Instant::now() + SECOND;
    while !processes_with("sleep 5201").is_empty() {
        assert!(Instant::now() < end, "they are alive a second after the host");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The part of the other process: it starts runs and waits to be killed.
pub fn play() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let container = container().await;
        let main = container.spawn(&sh("exec sleep 5201")).await.unwrap();
        let _beside = main.beside().spawn(sh("(setsid sleep 5201 &); exec sleep 5201")).await.unwrap();
        eventually("all run", || processes_with("sleep 5201").len() == 3).await;
        println!("\nrunning");
        std::future::pending::<()>().await;
    });
}
