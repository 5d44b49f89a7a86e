//! When a pool does work once more.

use std::sync::{Arc, Mutex};

use cellblock::pool::{Job, Retry};
use cellblock::{Command, ErrorKind, Lease, Pool};
use futures::{StreamExt, stream};

use super::{kill_inits, until};
use crate::common::{SECOND, alone, builder, children};

/// Does a job whose container dies in each of its first `deaths` attempts, and returns how often it
/// was started, its result, and the retries that the hook was told.
async fn attempts(retry: Retry, deaths: u32) -> (u32, Result<(), ErrorKind>, Vec<(u32, ErrorKind)>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let told = Arc::clone(&told);
        move |number, error: &cellblock::Error| told.lock().unwrap().push((number, error.kind()))
    };
    let pool = Pool::builder(builder()).size(1).retry(retry.hook(hook)).build().await.unwrap();
    let started = &Mutex::new(0);
    let job = Job::new((), async |lease: &Lease| {
        *started.lock().unwrap() += 1;
        if *started.lock().unwrap() <= deaths {
            kill_inits(&children());
        }
        lease.run(Command::new("/bin/true")).await
    });
    let mut results: Vec<_> = pool.stream(stream::iter([job])).collect().await;
    let result = results.pop().unwrap().1.map(drop).map_err(|error| error.kind());
    until(&pool, |status| status.ready == 1).await;
    pool.shutdown(SECOND).await;
    let told = told.lock().unwrap().clone();
    (*started.lock().unwrap(), result, told)
}

#[test]
fn a_policy_says_how_often_and_its_hook_is_told_why() {
    alone(async |snapshot| {
        let lost = |count: u32| (1..=count).map(|number| (number, ErrorKind::Lost)).collect::<Vec<_>>();
        assert_eq!(attempts(Retry::default(), 1).await, (2, Ok(()), lost(1)), "one retry by default");
        assert_eq!(attempts(Retry::default(), 2).await, (2, Err(ErrorKind::Lost), lost(1)));
        assert_eq!(attempts(Retry::never(), 1).await, (1, Err(ErrorKind::Lost), lost(0)));
        assert_eq!(attempts(Retry::times(3), 3).await, (4, Ok(()), lost(3)));
        assert_eq!(attempts(Retry::times(3), 0).await, (1, Ok(()), lost(0)));
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_policy_says_which_errors_are_retried() {
    alone(async |snapshot| {
        let only_busy = Retry::times(3).on(|error| error.kind() == ErrorKind::Busy);
        assert_eq!(attempts(only_busy, 1).await, (1, Err(ErrorKind::Lost), Vec::new()));

        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        let missing = Retry::times(2).on(|error| error.kind() == ErrorKind::Exec).hook(move |_, _| {
            *count.lock().unwrap() += 1;
        });
        let pool = Pool::builder(builder()).size(1).retry(missing).build().await.unwrap();
        let error = pool.run(Command::new("/no/such/program")).await.unwrap_err();
        assert_eq!((error.kind(), *told.lock().unwrap()), (ErrorKind::Exec, 2));
        // The container is not at fault, and is kept.
        let status = pool.status();
        assert_eq!((status.building, status.broken), (0, 0));
        drop(pool);
        snapshot.assert_restored().await;
    });
}
