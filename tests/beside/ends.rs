//! How runs beside another one end, and that nothing of them is left.

use cellblock::{ErrorKind, report::Cause};
use tokio::time::timeout;

use crate::common::{KILLED, SECOND, container, eventually, processes_with, sh};
use crate::{kill_running, millis, sleeper};

#[tokio::test]
async fn the_end_of_the_main_run_ends_those_beside_it() {
    let container = container().await;
    for end in ["exit 0", "kill -9 $$"] {
        let script = format!("sleep {}; {end}", millis(300).as_secs_f32());
        let mut main = container.spawn(&sh(&script)).await.unwrap();
        let mut besides = Vec::new();
        for _ in 0..3 {
            besides.push(main.beside().spawn(sh("trap '' TERM; (setsid sleep 4711 &); sleep 4711")).await.unwrap());
        }
        let report = main.wait().await.unwrap();
        assert_ne!(report.cause, Cause::MainEnded);
        for beside in &mut besides {
            // The main run is over, so they are.
            let report = beside.try_wait().unwrap().expect("it is over");
            assert_eq!((report.status, report.cause), (KILLED, Cause::MainEnded));
            assert!(report.to_string().contains("killed at the end of the run that it was beside"), "{report}");
        }
        let error = main.beside().run(sh("true")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotRunning);
        assert!(error.to_string().contains("there is no run to be beside"), "{error}");
    }
    let error = container.beside().run(sh("true")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotRunning && !error.is_retryable(), "{error}");
    container.destroy().await;
}

#[tokio::test]
async fn a_handle_of_an_earlier_run_starts_nothing_beside_the_next_one() {
    let container = container().await;
    let mut first = container.spawn(&sh("true")).await.unwrap();
    first.wait().await.unwrap();
    let second = sleeper(&container).await;
    assert_eq!(first.beside().run(sh("true")).await.unwrap_err().kind(), ErrorKind::NotRunning);
    assert!(container.beside().run(sh("true")).await.unwrap().status.success());
    kill_running(second).await;
}

#[tokio::test]
async fn what_a_run_leaves_behind_dies_with_it_and_with_no_other() {
    let container = container().await;
    let daemon = |seconds: u32| sh(&format!("(setsid sleep {seconds} &); (setsid sleep {seconds} &)"));
    let count = |seconds: u32| processes_with(&format!("sleep {seconds}")).len();
    let main = container.spawn(&sh("(setsid sleep 4801 &); exec sleep 4801")).await.unwrap();
    let other = main.beside().spawn(sh("(setsid sleep 4802 &); exec sleep 4802")).await.unwrap();
    let exactly = |seconds: u32, wanted| {
        let names = || processes_with(&format!("sleep {seconds}"));
        names().len() == wanted && processes_with(&format!("setsid sleep {seconds}")).is_empty()
    };
    eventually("both have started", || exactly(4801, 2) && exactly(4802, 2)).await;
    let (of_main, of_other) = (2, 2);
    for _ in 0..5 {
        assert!(main.beside().run(daemon(4803)).await.unwrap().status.success());
        assert_eq!((count(4803), count(4802), count(4801)), (0, of_other, of_main));
    }
    kill_running(other).await;
    assert_eq!((count(4802), count(4801)), (0, of_main));
    kill_running(main).await;
    assert_eq!(count(4801), 0);
}

#[tokio::test]
async fn a_reset_waits_until_all_are_over() {
    let container = container().await;
    let main = container.spawn(&sh(&format!("sleep {}", millis(300).as_secs_f32()))).await.unwrap();
    let mut beside = main.beside().spawn(sh("echo x > left; sleep 1000")).await.unwrap();
    container.reset().await.unwrap();
    assert_eq!(beside.try_wait().unwrap().expect("it is over").cause, Cause::MainEnded);
    assert_eq!(container.read("left", 1).await.unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[tokio::test]
async fn the_end_of_a_lease_ends_all() {
    let pool = cellblock::Pool::builder(crate::common::builder()).size(1).build().await.unwrap();
    let lease = pool.lease().await.unwrap();
    let mut main = sleeper(&lease).await;
    let mut beside = main.beside().spawn(sh("sleep 5101")).await.unwrap();
    let handle = main.beside();
    drop(lease);
    let next = timeout(10 * SECOND, pool.lease()).await.unwrap().unwrap();
    assert_eq!(processes_with("sleep 5101"), [0_u32; 0]);
    let of_next = sleeper(&next).await;
    assert_eq!(handle.run(sh("true")).await.unwrap_err().kind(), ErrorKind::Returned);
    // A report that had come already stays.
    assert!(beside.wait().await.map_or_else(|error| error.kind() == ErrorKind::Returned, |it| it.status == KILLED));
    assert!(main.wait().await.map_or_else(|error| error.kind() == ErrorKind::Returned, |it| it.status == KILLED));
    kill_running(of_next).await;
}
