//! Builds: many at once, dropped ones, and ones that fail.

use std::path::Path;
use std::time::Duration;

use cellblock::{Container, ErrorKind, container::OpenFile, report::Status};
use futures::future::join_all;

use crate::common::{
    FewDescriptors, SECOND, alone, builder, cc, container, init_exe, is_lost, is_root, open_dir, says, sh,
};

#[test]
fn a_dropped_build_leaves_nothing() {
    alone(async |snapshot| {
        for micros in (0..4000).step_by(100) {
            drop(tokio::time::timeout(Duration::from_micros(micros), builder().build()).await);
        }
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_hundred_containers_run_at_once() {
    alone(async |snapshot| {
        let containers: Vec<_> = join_all((0..100).map(|_| container())).await;
        let uid = sh("cat /proc/self/uid_map | tr -s ' '");
        let mut maps = join_all(containers.iter().map(|container| says(container, &uid))).await;
        maps.sort();
        maps.dedup();
        assert_eq!(maps.len(), if is_root() { 100 } else { 1 }, "ids are never shared");
        let half = containers.into_iter().enumerate().filter_map(|(number, it)| (number % 2 == 0).then_some(it));
        let half: Vec<_> = half.collect();
        let results = join_all(half.iter().map(|container| container.ping(10 * SECOND))).await;
        assert!(results.iter().all(Result::is_ok));
        join_all(half.iter().map(Container::destroy)).await;
        drop(half);
        snapshot.assert_restored().await;
    });
}

#[test]
fn half_of_a_hundred_builds_may_be_dropped_halfway() {
    alone(async |snapshot| {
        let build = async |number: u32| {
            // The deadlines cover the time that a build takes, so builds are dropped at every step.
            let time = if number.is_multiple_of(2) { 60 * SECOND } else { Duration::from_millis(number.into()) };
            tokio::time::timeout(time, container()).await.ok()
        };
        let built: Vec<_> = join_all((0..100).map(build)).await.into_iter().flatten().collect();
        assert!((50..100).contains(&built.len()), "{} are built", built.len());
        let exit = sh("exit 3");
        let results = join_all(built.iter().map(|container| container.run(&exit))).await;
        assert!(results.into_iter().all(|report| report.unwrap().status == Status::Exited(3)));
        drop(built);
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_container_outlives_the_thread_that_built_it() {
    alone(async |snapshot| {
        let runtime = tokio::runtime::Handle::current();
        let (sender, built) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _entered = runtime.enter();
            // The first poll is here, so this thread starts the init.
            let mut building = Box::pin(async { container().await });
            let _pending = futures::executor::block_on(async { futures::poll!(building.as_mut()) });
            drop(sender.send(building));
        });
        let building = built.await.unwrap();
        thread.join().unwrap();
        let container = building.await;
        assert_eq!(says(&container, &sh("echo here")).await, "here");
        container.destroy().await;
        snapshot.assert_restored().await;
    });
}

#[test]
fn a_full_descriptor_table_is_a_retryable_error_and_leaks_nothing() {
    alone(async |snapshot| {
        let mut refused = 0;
        for room in 1..40 {
            let few = FewDescriptors::with_room_for(room);
            let built = builder().build().await;
            let outcome = match &built {
                Ok(container) => container.run(&sh("exit 3")).await.map(|report| report.status),
                Err(error) => Err(error.clone()),
            };
            // The limit holds for the host's calls on a built container too.
            let pipes = match &built {
                Ok(container) => container.output(&sh("echo x")).await.map(|_| ()),
                Err(_) => Ok(()),
            };
            drop(few);
            for error in [outcome.as_ref().err(), pipes.as_ref().err()].into_iter().flatten() {
                assert!(error.is_retryable(), "with room for {room}: {error}");
                refused += 1;
            }
            if let Ok(status) = outcome {
                assert_eq!(status, Status::Exited(3));
            }
            if let Ok(container) = built {
                container.destroy().await;
            }
            snapshot.assert_restored().await;
        }
        assert!(refused > 5, "{refused}");
    });
}

#[test]
fn a_reply_whose_descriptors_do_not_fit_is_an_error_and_leaks_nothing() {
    alone(async |snapshot| {
        for room in [0, 1, 20] {
            let container = container().await;
            let few = FewDescriptors::with_room_for(room);
            let result = container.open((0..300).map(|number| OpenFile::write(format!("f{number}")))).await;
            let next = container.ping(SECOND).await;
            drop(few);
            let error = result.unwrap_err();
            assert!(is_lost(&error) && error.to_string().contains("no room for its descriptors"), "{room}: {error}");
            assert_eq!(next.unwrap_err().to_string(), error.to_string());
            drop(container);
            snapshot.assert_restored().await;
        }
    });
}

#[test]
fn an_executable_that_is_not_an_init_is_a_clear_error() {
    alone(async |snapshot| {
        let dir = open_dir();
        let refused = async |path: &Path| builder().init_exe(path).start_timeout(SECOND).build().await.unwrap_err();
        for (path, errno) in [("/no/such/init", libc::ENOENT), ("/usr/bin", libc::EACCES)] {
            let error = refused(Path::new(path)).await;
            assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("read_init_executable")));
            assert_eq!((error.raw_os_error(), error.path()), (Some(errno), Some(Path::new(path))));
        }
        let script = dir.path().join("script");
        std::fs::write(&script, "no executable").unwrap();
        let error = refused(&script).await;
        assert_eq!((error.step(), error.raw_os_error()), (Some("start_init"), Some(libc::ENOEXEC)), "{error}");

        let error = refused(Path::new("/bin/true")).await;
        assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("hello")));
        assert!(error.hint().unwrap().contains("cellblock::init()"), "{error}");

        let silent = dir.path().join("silent");
        cc("#include <unistd.h>\nint main(void) { for (;;) pause(); }", &silent);
        let error = refused(&silent).await;
        assert!(error.to_string().contains("nothing within 1s"), "{error}");
        assert!(error.hint().unwrap().contains("cellblock::init()"));

        let babbling = dir.path().join("babbling");
        cc(
            r#"#include <unistd.h>
        int main(void) { write(2, "I am no init\033[2J\n", 18); write(0, "\x00\xc1garbage", 9); return 0; }"#,
            &babbling,
        );
        let error = refused(&babbling).await;
        assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("receive")), "{error}");

        let other = dir.path().join("other");
        // Sends [0, {"Hello": 99}] and waits.
        let hello = r#"#include <unistd.h>
        int main(void) { write(0, "\x00\x92\x00\x81\xa5Hello\x63", 11); for (;;) pause(); }"#;
        cc(hello, &other);
        let error = refused(&other).await;
        assert!(error.to_string().contains("version 99"), "{error}");
        snapshot.assert_restored().await;
    });
}

#[test]
fn the_inits_executable_may_be_removed() {
    alone(async |snapshot| {
        let dir = open_dir();
        let copy = dir.path().join("init");
        std::fs::copy(init_exe(), &copy).unwrap();
        let builder = Container::builder().init_exe(&copy);
        builder.build().await.unwrap().destroy().await;
        std::fs::remove_file(&copy).unwrap();
        builder.build().await.unwrap().destroy().await;
        snapshot.assert_restored().await;
    });
}
