//! `Pool::stream` and `Pool::converse`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::pin::pin;

use cellblock::{
    Command, ErrorKind, Lease, Pool,
    pool::{Job, Side},
};
use futures::future::join_all;
use futures::{StreamExt, poll, stream};

use super::{inits, kill_inits, pool, until};
use crate::common::{SECOND, alone, builder, children, python, says, sh};

#[test]
fn results_come_as_jobs_finish_or_in_order() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let jobs = || {
            stream::iter((0..40_u32).map(|number| {
                Job::new(number, async move |lease: &Lease| {
                    // The first job takes longest.
                    let pause = if number == 0 { 0.3 } else { 0.0 };
                    Ok(says(lease, &sh(&format!("ls -A; echo {number} | tee f; sleep {pause}"))).await)
                })
            }))
        };
        let finished: Vec<_> = pool.stream(jobs()).collect().await;
        let text = |number: u32| (number, number.to_string());
        let all: Vec<_> = finished.into_iter().map(|(key, result)| (key, result.unwrap())).collect();
        assert_ne!(all[0].0, 0, "the stream does not wait for the slow job");
        assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), (0..40).map(text).collect());
        assert_eq!(all.len(), 40);
        let ordered: Vec<_> =
            pool.stream(jobs()).in_order().map(|(key, result)| (key, result.unwrap())).collect().await;
        assert_eq!(ordered, (0..40).map(text).collect::<Vec<_>>());
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_stream_takes_no_more_jobs_than_it_has_containers() {
    alone(async |snapshot| {
        let pool = Pool::builder(builder()).size(2).queue(0).build().await.unwrap();
        let taken = RefCell::new(0);
        let jobs = stream::iter(0..20).map(|number| {
            *taken.borrow_mut() += 1;
            Job::new(number, async |lease: &Lease| lease.run(&Command::new("/bin/true")).await)
        });
        let mut results = pool.stream(jobs);
        for done in 0.. {
            let Some((_, result)) = results.next().await else { break };
            assert!(result.unwrap().status.success());
            assert!(*taken.borrow() <= done + 2);
        }
        assert_eq!(*taken.borrow(), 20);
        drop(results);
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_dropped_stream_kills_its_runs_and_takes_no_further_job() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        let before = inits(2);
        let mut jobs = stream::iter((0..10).map(|number| {
            Job::new(number, async move |lease: &Lease| lease.run(&sh(&format!("sleep 4170{number}"))).await)
        }));
        let mut results = Box::pin(pool.stream(&mut jobs));
        assert!(poll!(results.next()).is_pending());
        until(&pool, |status| status.leased == 2).await;
        assert!(poll!(results.next()).is_pending());
        drop(results);
        until(&pool, |status| status.ready == 2).await;
        assert_eq!(jobs.count().await, 8, "jobs that have not begun stay in the source");
        assert_eq!(inits(2), before);
        assert!(crate::common::processes_with("sleep 4170").is_empty());
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_job_whose_container_died_is_retried_once_in_another() {
    alone(async |snapshot| {
        let pool = pool(1).await;
        let attempts = RefCell::new(Vec::new());
        let attempts = &attempts;
        for fatal in [1, 2] {
            let job = Job::new("key", async move |lease: &Lease| {
                attempts.borrow_mut().push(children());
                if attempts.borrow().len() <= fatal {
                    kill_inits(&children());
                }
                lease.run(&Command::new("/bin/true")).await
            });
            let results: Vec<_> = pool.stream(stream::iter([job])).collect().await;
            let [("key", result)] = &results[..] else { panic!("one result") };
            let attempts = attempts.take();
            assert!(attempts.len() == 2 && attempts[0] != attempts[1], "twice, in two containers");
            match fatal {
                1 => assert!(result.as_ref().unwrap().status.success()),
                _ => assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Lost),
            }
            until(&pool, |status| status.ready == 1).await;
        }
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn two_programs_converse_and_the_result_says_which_ended_first() {
    alone(async |snapshot| {
        let pool = pool(2).await;
        // Doubles each number from its input, and stays for a moment after the end of the input.
        let solution = python(
            "import time\nwhile True:\n  try: print(2 * int(input()), flush=True)\n  except EOFError: break\n\
             time.sleep(0.2)",
        );
        let interactor = python(
            "import sys\nfor n in range(50):\n  print(n, flush=True)\n  assert int(input()) == 2 * n\n\
             print('right', file=sys.stderr)",
        );
        let talk = pool.converse(&interactor, &solution).await.unwrap();
        assert!(talk.first.report.status.success() && talk.second.report.status.success());
        assert_eq!((talk.ended_first, &*talk.first.stderr), (Side::First, &b"right\n"[..]));

        let crash = python("input(); raise SystemExit(7)");
        let patient = python("print(1, flush=True)\nimport sys, time\nassert sys.stdin.read() == ''\ntime.sleep(0.2)");
        let talk = pool.converse(&patient, &crash).await.unwrap();
        assert_eq!((talk.ended_first, talk.second.report.status.shell_code()), (Side::Second, 7));
        assert!(talk.first.report.status.success(), "it saw the end of its input");

        let by_name = sh("echo through > /dev/stdout");
        let reads = sh("cat /dev/stdin >&2");
        let talk = pool.converse(&by_name, &reads).await.unwrap();
        assert_eq!(talk.second.stderr, b"through\n");

        let error = pool.converse(&sh("sleep 60"), &Command::new("/missing")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exec);
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn many_conversations_never_deadlock() {
    alone(async |snapshot| {
        let pool = pool(3).await;
        let (says, hears) = (sh("echo word"), sh("read word; echo $word >&2"));
        let talks = join_all((0..30).map(|_| pool.converse(&says, &hears)));
        let singles = join_all((0..30).map(|_| pool.run(&says)));
        let all = async { futures::join!(talks, singles) };
        let (talks, singles) = tokio::time::timeout(30 * SECOND, all).await.expect("no pair blocks another");
        assert!(talks.into_iter().all(|talk| talk.unwrap().second.stderr == b"word\n"));
        assert!(singles.into_iter().all(|report| report.unwrap().status.success()));
        pool.shutdown(SECOND).await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn any_thread_may_use_a_pool() {
    alone(async |snapshot| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let work = async {
            let pool = pool(2).await;
            let tasks = (0..20).map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let lease = pool.lease().await.unwrap();
                    lease.write("f", number.to_string()).await.unwrap();
                    assert_eq!(lease.read("f", 9).await.unwrap(), number.to_string().as_bytes());
                    drop(lease);
                    assert!(pool.run(&Command::new("/bin/true")).await.unwrap().status.success());
                    let (one, other) = (sh("echo hello"), sh("cat >&2"));
                    assert_eq!(pool.converse(&one, &other).await.unwrap().second.stderr, b"hello\n");
                })
            });
            for task in join_all(tasks).await {
                task.unwrap();
            }
            let own = pool.clone();
            let stream = tokio::spawn(async move {
                let job = |key: u32| Job::new(key, async |lease: &Lease| lease.run(&Command::new("/bin/true")).await);
                let results = own.stream(stream::iter((0..20).map(job))).in_order();
                pin!(results).map(|(key, result)| (key, result.unwrap().status.success())).collect::<Vec<_>>().await
            });
            assert_eq!(stream.await.unwrap(), (0..20).map(|key| (key, true)).collect::<Vec<_>>());
            pool.shutdown(SECOND).await;
        };
        runtime.spawn(work).await.unwrap();
        runtime.shutdown_background();
        snapshot.assert_restored().await;
    });
}
