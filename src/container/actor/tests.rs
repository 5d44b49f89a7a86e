//! The real actor, and a fake init on a thread that answers as no init may.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::fcntl::OFlag;
use tokio::sync::oneshot;

use super::*;
use crate::command::Command;
use crate::container::Container;
use crate::container::OpenFile;
use crate::container::fuzzing::harness::fake_init::{FakeInit, PATIENCE, connection, container_on};
use crate::error::{ErrorKind, Failure, Step};
use crate::sys::socket;
use crate::wire::{self, Measurement, Request, WaitStatus};

mod orders;

/// A container whose init is played by `play`, on a thread.
fn served_by(play: impl FnOnce(FakeInit) + Send + 'static) -> (Container, thread::JoinHandle<()>) {
    served_with_patience(PATIENCE, play)
}

fn served_with_patience(
    patience: Duration,
    play: impl FnOnce(FakeInit) + Send + 'static,
) -> (Container, thread::JoinHandle<()>) {
    let (container, init) = FakeInit::start(patience);
    (container, thread::spawn(move || play(init)))
}

/// A reply that fits into one datagram, to be garbled.
fn datagram(id: u64, reply: &Reply) -> Vec<u8> {
    let datagrams = wire::encode(id, reply, Vec::new()).unwrap();
    datagrams.into_iter().next().unwrap().bytes
}

fn measured() -> Measurement {
    Measurement::of(WaitStatus::exited(0))
}

#[tokio::test]
async fn an_answer_that_does_not_fit_ends_the_container() {
    let failure = |step| Some(Failure::new(step, nix::Error::ENOENT));
    let mut trailing = datagram(1, &Reply::Done);
    trailing.push(0);
    // A reply, the number of descriptors that are attached, and what the error says.
    let broken = "the init sent a frame that does not decode";
    let unasked = "the init sent a reply without a request";
    let other = "the init answered something else";
    let surplus = "descriptors without a request for them";
    let misfit = "the init's results do not fit its descriptors";
    let answers = [
        (Vec::new(), 1, "the init ended"),
        (b"\0garbage".to_vec(), 0, broken),
        (vec![0], 1, broken),
        (vec![0xff], 0, "unknown header (0xff)"),
        // In an unknown field, which the decoder skips: everywhere else the types bound the depth.
        ([b"\0\x92\x01\x81\xa6Failed\x81\xa1x", &[0x91; 100_000][..]].concat(), 0, "depth limit exceeded"),
        (vec![0; 150_000], 1, "a truncated frame"),
        (vec![1, 0x92], 0, "an empty frame"),
        (vec![2], 1, "not a sealed memfd"),
        (trailing, 0, "bytes after a frame's end"),
        (rmp_serde::to_vec(&(1, "Unheard")).map(|it| [vec![0], it].concat()).unwrap(), 0, "unknown variant `Unheard`"),
        (datagram(2, &Reply::Opened(vec![None, None])), 2, unasked),
        (datagram(0, &Reply::Done), 0, unasked),
        (datagram(1, &Reply::Done), 0, other),
        (datagram(1, &Reply::Hello(1)), 0, other),
        (datagram(1, &Reply::Started), 1, surplus),
        (datagram(1, &Reply::Ended(measured())), 0, other),
        (datagram(1, &Reply::Failed(failure(Step::Open).unwrap())), 1, surplus),
        (datagram(1, &Reply::Opened(vec![None])), 1, misfit),
        (datagram(1, &Reply::Opened(vec![None, None])), 0, misfit),
        (datagram(1, &Reply::Opened(vec![None, None])), 1, misfit),
        (datagram(1, &Reply::Opened(vec![None, None])), 3, misfit),
        (datagram(1, &Reply::Opened(vec![None, failure(Step::Open), None])), 2, misfit),
        // As many as it should be, but they are pipes.
        (datagram(1, &Reply::Opened(vec![None, None])), 2, misfit),
    ];
    for (bytes, fds, word) in answers {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let writer = Arc::new(writer);
        let (container, init) = served_by(move |mut init| {
            init.next();
            init.send(bytes, vec![writer; fds], true).unwrap();
        });
        let error = container.open([OpenFile::read("a"), OpenFile::read("b")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{word}: {error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert_eq!(container.death().await.to_string(), error.to_string());
        assert_eq!(container.reset().await.unwrap_err().to_string(), error.to_string(), "the next call's answer");
        init.join().unwrap();
        assert_eq!(nix::unistd::read(&reader, &mut [0]), Ok(0), "{word}: its descriptors are closed");
    }
}

/// A container whose first request gets this reply, with this descriptor.
fn answered_with(reply: Reply, fd: Option<OwnedFd>) -> (Container, thread::JoinHandle<()>) {
    served_by(move |mut init| {
        let request = init.next();
        init.answer_with(request.id, &reply, fd.into_iter().map(Arc::new).collect()).unwrap();
    })
}

/// The reason of the container's death, which every later call returns too.
async fn lost<T: std::fmt::Debug>(container: &Container, result: Result<T>) -> String {
    let said = result.unwrap_err().to_string();
    assert_eq!(container.death().await.to_string(), said);
    assert_eq!(container.delete("f").await.unwrap_err().to_string(), said);
    said
}

#[tokio::test]
async fn a_ping_that_fails_ends_the_container() {
    let (container, init) = answered_with(Reply::Failed(Failure::new(Step::Open, nix::Error::ENOENT)), None);
    let said = lost(&container, container.ping(PATIENCE).await).await;
    assert!(said.contains("the init answered something else: Failed"), "{said}");
    init.join().unwrap();
}

#[tokio::test]
async fn a_status_that_no_process_has_ends_the_container() {
    let signaled = |signal| WaitStatus::signaled(signal, false);
    for status in [WaitStatus(-1), WaitStatus::exited(256), WaitStatus(0x80), signaled(65), signaled(i32::MAX)] {
        let (container, init) = answered_with(Reply::Ended(Measurement::of(status)), None);
        let said = lost(&container, container.run(&Command::new("/p")).await).await;
        assert!(said.contains("the init answered something else: Ended"), "{status:?}: {said}");
        init.join().unwrap();
    }
}

#[tokio::test]
async fn a_descriptor_that_only_names_a_file_ends_the_container() {
    for (flags, is_open) in [(OFlag::O_RDONLY, true), (OFlag::O_PATH, false)] {
        let file = nix::fcntl::open("/bin/true", flags | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty()).unwrap();
        let (container, init) = answered_with(Reply::Opened(vec![None]), Some(file));
        match container.open([OpenFile::read("a")]).await {
            Ok(files) => assert!(is_open && files[0].is_ok(), "the control"),
            failed => {
                let said = lost(&container, failed).await;
                assert!(!is_open && said.contains("do not fit its descriptors"), "{said}");
            }
        }
        init.join().unwrap();
    }
}

#[tokio::test]
async fn an_announcement_without_a_pidfd_ends_the_container() {
    let (container, init) = answered_with(Reply::Forked, Some(std::fs::File::open("/dev/null").unwrap().into()));
    let mut command = Command::new("/bin/true");
    command.pid_hook(|pid, _| async move { panic!("{pid} is shown") });
    let said = lost(&container, container.run(&command).await).await;
    assert!(said.contains("what is no pidfd"), "{said}");
    init.join().unwrap();
}

#[tokio::test]
async fn an_init_that_exits_with_a_request_unread_has_ended() {
    let (container, init) = served_by(|init| {
        // The request arrives, and stays unread.
        let mut fds = [nix::poll::PollFd::new(init.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 5000_u16).unwrap();
    });
    let error = container.ping(PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the container is lost: serve: the init ended");
    init.join().unwrap();
}

#[tokio::test]
async fn an_answer_that_fits_is_delivered() {
    let (container, init) = served_by(|mut init| {
        let file: Arc<OwnedFd> = Arc::new(std::fs::File::open("/bin/true").unwrap().into());
        let request = init.next();
        let failure = Some(Failure::new(Step::Open, nix::Error::ENOENT));
        init.answer_with(request.id, &Reply::Opened(vec![failure, None]), vec![file]).unwrap();
        // The init ends here. The container must notice without a call.
    });
    let results = container.open([OpenFile::read("a"), OpenFile::read("b")]).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert!(results[1].is_ok());
    assert_eq!(container.death().await.kind(), ErrorKind::Lost);
    init.join().unwrap();
}

#[tokio::test]
async fn a_surplus_answer_ends_an_idle_container() {
    let (container, init) = served_by(|mut init| {
        let request = init.next();
        for _ in 0..2 {
            init.answer(request.id, &Reply::Done);
        }
        // The init lives until the host closes the socket.
        drop(init.receive(true));
    });
    container.ping(PATIENCE).await.unwrap();
    // At the next call at the latest the actor sees the second answer.
    drop(container.ping(Duration::from_millis(100)).await);
    let death = container.death().await;
    assert!(death.to_string().contains("the init sent a reply without a request: Done"), "{death}");
    assert_eq!(container.delete("f").await.unwrap_err().to_string(), death.to_string());
    init.join().unwrap();
}

#[tokio::test]
async fn calls_that_wait_for_a_full_mailbox_end_with_the_container() {
    let (container, init) = served_by(|mut init| {
        init.next();
    });
    let pings = (0..300).map(|_| container.ping(PATIENCE));
    let results = futures::future::join_all(pings).await;
    assert!(results.into_iter().all(|result| result.unwrap_err().kind() == ErrorKind::Lost));
    init.join().unwrap();
}

#[tokio::test]
async fn a_container_whose_reset_fails_between_two_leases_ends() {
    let (container, init) = served_by(|mut init| {
        let request = init.next();
        assert!(matches!(request.body, Request::Reset));
        let failed = Reply::Failed(Failure::new(Step::Unmount, nix::Error::EBUSY));
        init.answer(request.id, &failed);
        assert!(init.receive(true).unwrap().is_none(), "the init gets no other request");
    });
    container.give_back();
    assert_eq!(container.renew().await.unwrap_err().failed_step(), Some(Step::Unmount));
    container.retire().await;
    assert_eq!(container.ping(PATIENCE).await.unwrap_err().kind(), ErrorKind::Returned);
    init.join().unwrap();
}

#[tokio::test]
async fn a_container_that_cannot_be_frozen_ends() {
    let (container, init) = served_by(|mut init| {
        let request = init.next();
        assert!(matches!(request.body, Request::Freeze));
        init.answer(request.id, &Reply::Failed(Failure::new(Step::Freeze, nix::Error::ENOSPC)));
        assert!(init.receive(true).unwrap().is_none(), "the init gets no other request");
    });
    let error = container.freeze().await.unwrap_err();
    assert_eq!((error.kind(), error.failed_step()), (ErrorKind::Build, Some(Step::Freeze)));
    assert_eq!(container.ping(PATIENCE).await.unwrap_err().kind(), ErrorKind::Lost);
    init.join().unwrap();
}

#[tokio::test]
async fn a_message_sent_after_its_lease_reaches_no_init() {
    let (container, init) = served_by(|mut init| {
        for expected in ["Reset", "Ping"] {
            let request = init.next();
            assert_eq!(format!("{:?}", request.body), expected);
            init.answer(request.id, &Reply::Done);
        }
    });
    container.give_back();
    let next = container.renew().await.unwrap();
    // A handle may be about to send when its lease ends.
    let (answer, answered) = oneshot::channel();
    let late = Message::Request(Request::ReadLink("f".into()), PendingReply::Target(answer));
    container.mailbox.send_unchecked(late).await.unwrap();
    assert_eq!(container.mailbox.reply(answered).await.unwrap_err().kind(), ErrorKind::Returned);
    container.condemn();
    next.ping(PATIENCE).await.expect("condemning an earlier lease does not end the container");
    init.join().unwrap();
}

#[tokio::test]
async fn a_process_that_is_not_the_inits_child_is_shown_to_no_hook() {
    let (container, init) = served_by(|mut init| {
        let request = init.next();
        let own = Arc::new(crate::sys::process::Pidfd::of_self().unwrap());
        init.answer_with(request.id, &Reply::Forked, vec![own]).unwrap();
    });
    let mut command = Command::new("/bin/true");
    command.pid_hook(|pid, _| async move { panic!("{pid} is shown") });
    let error = container.run(&command).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("not its own"), "{error}");
    init.join().unwrap();
}

#[tokio::test]
async fn an_announcement_that_no_caller_waits_for_ends_the_container() {
    let (container, init) = served_by(|mut init| {
        let request = init.next();
        let own = Arc::new(crate::sys::process::Pidfd::of_self().unwrap());
        init.answer_with(request.id, &Reply::Forked, vec![own]).unwrap();
    });
    assert_eq!(container.run(&Command::new("/bin/true")).await.unwrap_err().kind(), ErrorKind::Lost);
    init.join().unwrap();
}

#[tokio::test]
async fn a_run_that_the_kernel_refuses_to_send_leaves_its_turn_to_the_next() {
    let (host, socket) = socket::pair().unwrap();
    nix::sys::socket::setsockopt(&host, nix::sys::socket::sockopt::SndBuf, &(16 << 10)).unwrap();
    let same = host.try_clone().unwrap();
    let container = container_on(host, PATIENCE);
    let mut init = FakeInit::on(socket);
    let ((received, are_received), (go, on)) = (oneshot::channel(), std::sync::mpsc::channel());
    let init = thread::spawn(move || {
        let (first, ping) = (init.next().id, init.next().id);
        received.send(()).unwrap();
        on.recv().unwrap();
        init.answer(first, &Reply::Ended(measured()));
        init.answer(ping, &Reply::Done);
        on.recv().unwrap();
        while !matches!(init.next().body, Request::Kill(id, _) if id == first) {}
        // After a kill the host pings, to see whether the init still answers.
        assert!(matches!(init.next().body, Request::Ping));
        let third = init.next();
        assert!(matches!(third.body, Request::StartRun(_)), "{:?}", third.body);
        init.answer(third.id, &Reply::Ended(measured()));
    });
    let (small, mut large) = (Command::new("/bin/true"), Command::new("/bin/true"));
    large.args(["x".repeat(64 << 10)]);
    let (mut first, mut second) = (Box::pin(container.run(&small)), Box::pin(container.run(&large)));
    let mut ping = Box::pin(container.ping(PATIENCE));
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut ping).is_pending());
    are_received.await.unwrap();

    let filler = wire::encode(0, &Request::Ping, Vec::new()).unwrap();
    while filler[0].send(&same, false).is_ok() {}
    // The kill waits for room in the socket, and the second run waits behind it. So the kernel
    // refuses the run late.
    drop(first);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    ping.await.unwrap();
    go.send(()).unwrap();
    assert_eq!(second.await.unwrap_err().failed_step(), Some(Step::Send));
    let third = tokio::time::timeout(PATIENCE, container.run(&small)).await;
    third.expect("its turn comes").unwrap();
    init.join().unwrap();
}

#[tokio::test]
async fn an_inits_text_is_shown_in_part_and_without_control_characters() {
    let variant = rmp_serde::to_vec(&(1, format!("\x1b[31m{}", "y".repeat(100_000)))).unwrap();
    let path = std::path::PathBuf::from("z".repeat(100_000));
    for answer in [
        [vec![0], variant].concat(),
        datagram(1, &Reply::Opened(vec![None; 100_000])),
        datagram(1, &Reply::Opened(vec![Some(Failure::at(Step::Open, path, nix::Error::ENOENT))])),
    ] {
        let (container, init) = served_by(move |mut init| {
            init.next();
            init.send(answer, Vec::new(), true).unwrap();
        });
        let said = container.ping(PATIENCE).await.unwrap_err().to_string();
        assert!(said.len() < 10_000 && !said.contains(char::is_control), "{} bytes: {said:?}", said.len());
        init.join().unwrap();
    }
}

#[tokio::test]
async fn a_panic_of_the_actors_task_ends_every_call_and_the_init() {
    let (host, init) = socket::pair().unwrap();
    let connection = connection(host).unwrap();
    let process = connection.pid1.pid().unwrap();
    let (container, actor) = Container::serve(connection, PATIENCE, 4);
    let task = tokio::spawn(async {
        tokio::select! {
            () = actor => {}
            () = tokio::time::sleep(Duration::from_millis(50)) => panic!("on purpose"),
        }
    });
    let (waiting, queued) = tokio::join!(container.ping(PATIENCE), container.delete("x"));
    for result in [waiting, queued, container.reset().await] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert!(task.await.unwrap_err().is_panic());
    let end = std::time::Instant::now() + PATIENCE;
    while Path::new(&format!("/proc/{process}")).exists() {
        assert!(std::time::Instant::now() < end, "the init is still there");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(init);
}

#[tokio::test]
async fn an_init_that_does_not_end_a_run_in_time_is_killed() {
    // A stuck init, and one that still answers pings.
    for (answers, said) in [(false, "owed an answer for 50ms"), (true, "did not end a run at its time")] {
        let (container, init) = served_with_patience(Duration::from_millis(50), move |mut init| {
            let run = init.next();
            // Long enough for the actor to set its timers.
            thread::sleep(Duration::from_millis(20));
            init.answer(run.id, &Reply::Ended(measured()));
            while let Ok(Some(request)) = init.receive(true) {
                if answers && matches!(request.body, Request::Ping) {
                    init.answer(request.id, &Reply::Done);
                }
            }
        });
        let mut command = Command::new("/bin/sleep");
        // The first run has no limit of time.
        container.run(&command).await.unwrap();
        let limits =
            crate::limits::Limits::new().wall_time(Duration::from_millis(100)).memory(4 << 20).allow_weaker(true);
        command.limits(limits);
        let start = std::time::Instant::now();
        let error = container.run(&command).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(200) && elapsed < Duration::from_secs(10), "{elapsed:?}");
        init.join().unwrap();
    }
}

#[tokio::test]
async fn the_host_waits_for_a_run_that_is_slow_to_die_while_the_init_answers() {
    let (container, init) = served_with_patience(Duration::from_millis(50), |mut init| {
        let run = init.next();
        let end = std::time::Instant::now() + Duration::from_millis(500);
        while std::time::Instant::now() < end {
            let ping = init.next();
            assert!(matches!(ping.body, Request::Ping));
            init.answer(ping.id, &Reply::Done);
        }
        init.answer(run.id, &Reply::Ended(measured()));
    });
    let mut command = Command::new("/bin/sleep");
    command.limits(crate::limits::Limits::new().wall_time(Duration::from_millis(50)));
    container.run(&command).await.unwrap();
    init.join().unwrap();
}
