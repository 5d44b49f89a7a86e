//! Every future may be dropped after any number of polls. The container still serves, and nothing
//! leaks.

use cellblock::{Container, ErrorKind, Stdio, container::OpenFile};

use crate::common::{
    KILLED, LeakSnapshot, SECOND, alone, builder, children, container, is_root, open_dir, polled, says, sh,
};

/// The states that a working directory may have after an attempt.
#[derive(Clone, Copy)]
enum Left<'a> {
    UpTo(&'a [&'a str]),
    Any(&'a [&'a str]),
}

/// Drops a future after no poll, after one, after two, until it completes. `attempt` makes and
/// polls the future and returns whether it completed.
///
/// After each attempt the container must answer. Its working directory holds a file `old` at first,
/// and afterwards must look like one of `allowed`. Once the future completes, the directory must
/// look like the last of them, unless they are [`Any`](Left::Any).
async fn at_every_poll(
    container: &Container,
    what: &str,
    left: Left<'_>,
    mut attempt: impl AsyncFnMut(&Container, usize) -> bool,
) {
    let (allowed, is_any) = match left {
        Left::UpTo(states) => (states, false),
        Left::Any(states) => (states, true),
    };
    let list = sh("for name in *; do
        [ -d $name ] && echo $name/
        [ -f $name ] && echo $name=$(head -c 9 $name | tr '\\0' 0)
        done; true");
    let snapshot = LeakSnapshot::beside_a_container();
    for polls in 0..10_000 {
        container.reset().await.unwrap();
        container.write("old", *b"old").await.unwrap();
        let is_complete = attempt(container, polls).await;
        container.ping(5 * SECOND).await.unwrap_or_else(|error| panic!("{what}, after {polls} polls: {error}"));
        let left = says(container, &list).await.replace('\n', " ");
        assert!(allowed.contains(&left.as_str()), "{what}, after {polls} polls, leaves: {left}");
        if is_complete {
            assert!(polls > 0, "{what} is complete before it is polled");
            assert!(is_any || Some(&left.as_str()) == allowed.last(), "{what}, complete, leaves: {left}");
            snapshot.assert_restored().await;
            return;
        }
    }
    panic!("{what} never ends");
}

#[test]
fn a_container_still_serves_after_any_future_is_dropped() {
    alone(async |snapshot| {
        let container = container().await;
        let init = *children().first().unwrap();
        // The first run opens the files of the control group.
        says(&container, &sh(":")).await;
        let fds_of_init = || std::fs::read_dir(format!("/proc/{init}/fd")).unwrap().count();
        // Only root may list the descriptors of an init.
        let before = is_root().then(fds_of_init);
        use Left::{Any, UpTo};
        let it = &container;
        let big = vec![b'x'; 1 << 20];
        let slow = sh("echo new > new; sleep 0.005");
        let endless = sh("echo new > new; sleep 60");
        let mut talkative = sh("echo new > new; echo much; echo more >&2; cat; sleep 0.005");
        talkative.stdin(Stdio::bytes("input"));
        let unchanged = UpTo(&["old=old"]);
        let made = UpTo(&["old=old", "new= old=old", "new=new old=old"]);

        at_every_poll(it, "ping", unchanged, async |it, polls| polled(polls, it.ping(SECOND)).await.is_some()).await;
        at_every_poll(it, "fingerprint", unchanged, async |it, polls| polled(polls, it.fingerprint()).await.is_some())
            .await;
        at_every_poll(it, "open", UpTo(&["old=old", "a= b= old=old"]), async |it, polls| {
            polled(polls, it.open(["a", "b"].map(OpenFile::write))).await.is_some()
        })
        .await;
        at_every_poll(it, "write", made, async |it, polls| polled(polls, it.write("new", *b"new")).await.is_some())
            .await;
        let large = UpTo(&["old=old", "new= old=old", "new=xxxxxxxxx old=old"]);
        let killed = Any(&["new=new old=old", "new= old=old", "old=old"]);
        at_every_poll(it, "write much", large, async |it, polls| {
            polled(polls, it.write("new", big.clone())).await.is_some()
        })
        .await;
        at_every_poll(it, "read", unchanged, async |it, polls| polled(polls, it.read("old", 9)).await.is_some()).await;
        let all = 2 << 20;
        at_every_poll(it, "read much", UpTo(&["new=000000000 old=old"]), async |it, polls| {
            // The host sets the size itself, so that the file is there in every attempt.
            let [file] = <[_; 1]>::try_from(it.open([OpenFile::write("new")]).await.unwrap()).unwrap();
            file.unwrap().set_len(all).unwrap();
            polled(polls, it.read("new", all)).await.is_some()
        })
        .await;
        at_every_poll(it, "symlink", UpTo(&["old=old", "link=old old=old"]), async |it, polls| {
            polled(polls, it.symlink([("old", "link")])).await.is_some()
        })
        .await;
        at_every_poll(it, "delete", UpTo(&["old=old", ""]), async |it, polls| {
            polled(polls, it.delete("old")).await.is_some()
        })
        .await;
        at_every_poll(it, "create_dir_all", UpTo(&["old=old", "new/ old=old"]), async |it, polls| {
            polled(polls, it.create_dir_all("new/e")).await.is_some()
        })
        .await;
        at_every_poll(it, "rename", UpTo(&["old=old", "new=old"]), async |it, polls| {
            polled(polls, it.rename("old", "new")).await.is_some()
        })
        .await;
        at_every_poll(it, "metadata", unchanged, async |it, polls| polled(polls, it.metadata("old")).await.is_some())
            .await;
        at_every_poll(it, "read_dir", unchanged, async |it, polls| {
            polled(polls, async { it.read_dir(".").await.unwrap().next_entry().await }).await.is_some()
        })
        .await;
        at_every_poll(it, "remove_dir_all", Any(&["old=old", "dir/ old=old"]), async |it, polls| {
            it.create_dir_all("dir/sub").await.unwrap();
            it.write("dir/sub/f", "").await.unwrap();
            polled(polls, it.remove_dir_all("dir")).await.is_some()
        })
        .await;
        let (tree, copy) = (open_dir(), open_dir());
        std::fs::create_dir(tree.path().join("sub")).unwrap();
        (0..100).for_each(|number| std::fs::write(tree.path().join(format!("sub/{number}")), "small").unwrap());
        std::fs::write(tree.path().join("large"), &big).unwrap();
        at_every_poll(it, "copy_in", Any(&["old=old", "in/ old=old"]), async |it, polls| {
            polled(polls, it.copy_in(tree.path(), "in")).await.is_some()
        })
        .await;
        at_every_poll(it, "copy_out", Any(&["in/ old=old"]), async |it, polls| {
            it.copy_in(tree.path(), "in").await.unwrap();
            polled(polls, it.copy_out("in", copy.path())).await.is_some()
        })
        .await;
        assert_eq!(std::fs::read_dir(tree.path()).unwrap().count(), 2, "nothing is made beside the sources");
        assert_eq!(std::fs::read(copy.path().join("large")).unwrap(), big);
        at_every_poll(it, "reset", UpTo(&["old=old", ""]), async |it, polls| polled(polls, it.reset()).await.is_some())
            .await;
        at_every_poll(it, "run", made, async |it, polls| polled(polls, it.run(&slow)).await.is_some()).await;
        let mut hooked = slow.clone();
        hooked.pid_hook(|_, _| async {
            tokio::task::yield_now().await;
            Ok(())
        });
        at_every_poll(it, "run with a hook", made, async |it, polls| polled(polls, it.run(&hooked)).await.is_some())
            .await;
        let mut on_a_terminal = slow.clone();
        on_a_terminal.stdin(Stdio::pty()).stdout(Stdio::pty()).stderr(Stdio::pty());
        at_every_poll(it, "output of a terminal", made, async |it, polls| {
            polled(polls, it.output(&on_a_terminal)).await.is_some()
        })
        .await;
        at_every_poll(it, "output", made, async |it, polls| {
            let output = polled(polls, it.output(&talkative)).await;
            let Some(output) = output.map(Result::unwrap) else { return false };
            assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"much\ninput"[..], &b"more\n"[..]));
            true
        })
        .await;
        at_every_poll(it, "spawn", killed, async |it, polls| {
            // Dropping the `Process` kills the program, and so does dropping the future.
            match polled(polls, it.spawn(&endless)).await {
                Some(process) => process.unwrap().kill().await.unwrap().status == KILLED,
                None => false,
            }
        })
        .await;
        at_every_poll(it, "wait", UpTo(&["new=new old=old"]), async |it, polls| {
            let mut process = it.spawn(&slow).await.unwrap();
            let is_complete = polled(polls, process.wait()).await.is_some();
            assert!(process.wait().await.unwrap().status.success(), "a second wait returns the report");
            is_complete
        })
        .await;
        at_every_poll(it, "kill", killed, async |it, polls| {
            let mut process = it.spawn(&endless).await.unwrap();
            match polled(polls, process.kill()).await {
                Some(report) => report.unwrap().status == KILLED,
                None if polls == 0 => false,
                None => {
                    assert_eq!(process.wait().await.unwrap().status, KILLED, "the first poll has killed it");
                    false
                }
            }
        })
        .await;
        assert_eq!(polled(20, it.death()).await.map(|_| ()), None);
        assert_eq!(is_root().then(fds_of_init), before, "the init keeps no descriptor");
        container.destroy().await;
        assert_eq!(polled(1, it.death()).await.unwrap().kind(), ErrorKind::Destroyed);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_destroy_that_has_begun_completes_without_its_future() {
    alone(async |snapshot| {
        for polls in 0..10_000 {
            let container = container().await;
            let is_complete = polled(polls, container.destroy()).await.is_some();
            if polls == 0 {
                container.ping(SECOND).await.expect("an unpolled destroy does nothing");
            } else {
                assert_eq!(container.death().await.kind(), ErrorKind::Destroyed, "after {polls} polls");
                assert_eq!(LeakSnapshot::take(), snapshot, "after {polls} polls");
            }
            drop(container);
            snapshot.assert_restored().await;
            if is_complete {
                return assert!(polls > 1);
            }
        }
    });
}

#[test]
fn a_build_dropped_at_any_poll_leaves_nothing() {
    alone(async |snapshot| {
        let mut set_up = sh("sleep 0.005; echo done");
        set_up.stdout(Stdio::null());
        for polls in 0..10_000 {
            let built = polled(polls, builder().setup_command(set_up.clone()).build()).await;
            if let Some(container) = built {
                let container = container.unwrap();
                container.ping(SECOND).await.unwrap();
                container.destroy().await;
                assert!(polls > 5);
                return snapshot.assert_restored().await;
            }
            snapshot.assert_restored().await;
        }
    });
}

#[test]
fn a_dropped_runtime_fails_every_pending_call() {
    alone(async |snapshot| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (container, mut process) = runtime
            .spawn(async {
                let container = container().await;
                let process = container.spawn(&sh("sleep 60")).await.unwrap();
                (container, process)
            })
            .await
            .unwrap();
        let (program, files) = (sh(":"), [OpenFile::read("f")]);
        let all = async {
            tokio::join!(
                container.run(&program),
                container.output(&program),
                container.spawn(&program),
                container.reset(),
                process.wait(),
                container.death(),
            )
        };
        let mut all = Box::pin(all);
        assert!(polled(5, all.as_mut()).await.is_none(), "a run goes on");
        runtime.shutdown_background();
        let (run, output, spawn, reset, wait, death) = all.as_mut().await;
        drop(all);
        let errors = [run.err(), output.err(), spawn.err(), reset.err(), wait.err()];
        let later = [container.ping(SECOND).await.err(), container.open(files).await.err()];
        for error in errors.into_iter().chain(later) {
            assert_eq!(error.unwrap().to_string(), death.to_string());
        }
        assert_eq!(death.kind(), ErrorKind::Lost);
        drop((container, process));
        snapshot.assert_restored().await;
    });
}
