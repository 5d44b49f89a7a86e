//! The real actor, and in the init's place a thread that answers as no init may.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::fcntl::OFlag;

use super::*;
use crate::command::Command;
use crate::container::Container;
use crate::error::{ErrorKind, Failure, Step};
use crate::limits::LeaseLimits;

use crate::container::OpenFile;
use crate::sys::socket;
use crate::wire::{self, Measurement, Peer, WaitStatus};

mod orders;

/// A container whose init is played by `play`, which gets the other end of its socket.
fn served_by(play: impl FnOnce(OwnedFd) + Send + 'static) -> (Container, thread::JoinHandle<()>) {
    served_with_patience(Duration::from_secs(5), play)
}

fn served_with_patience(
    patience: Duration,
    play: impl FnOnce(OwnedFd) + Send + 'static,
) -> (Container, thread::JoinHandle<()>) {
    let (host, init) = socket::pair().unwrap();
    (on_socket(host, patience), thread::spawn(move || play(init)))
}

fn on_socket(host: OwnedFd, patience: Duration) -> Container {
    let (mailbox, messages) = mpsc::channel(4);
    let shared = Arc::new(Shared::default());
    let record = RecordDeath(Arc::clone(&shared));
    let launched = Launched::without_an_init(host).unwrap();
    tokio::spawn(Actor::serve_to_the_end(launched, messages, record, patience));
    Container { mailbox, shared, made: ContainerInfo::for_tests(), terms: LeaseLimits::default() }
}

fn frame(id: u64, reply: &Reply) -> Vec<u8> {
    let datagrams = wire::encode(id, reply, Vec::new()).unwrap();
    datagrams.into_iter().next().unwrap().bytes
}

fn report() -> Measurement {
    Measurement::of(WaitStatus::exited(0))
}

#[tokio::test]
async fn an_answer_that_does_not_fit_ends_the_container() {
    let failure = |step| Some(Failure::new(step, nix::Error::ENOENT));
    let mut trailing = frame(1, &Reply::Done);
    trailing.push(0);
    // Each with the number of descriptors that come along, and what the error says.
    let broken = "the init sent a frame that does not decode";
    let unasked = "the init answered what nobody had asked";
    let other = "the init answered something else";
    let surplus = "descriptors that nobody had asked for";
    let misfit = "the init's results do not fit its descriptors";
    let answers = [
        (Vec::new(), 1, "the init ended"),
        (b"\0garbage".to_vec(), 0, broken),
        (vec![0], 1, broken),
        (vec![0xff], 0, "unknown header (0xff)"),
        // In a field that nobody knows, which must be skipped; elsewhere a type says how deep a message is.
        ([b"\0\x92\x01\x81\xa6Failed\x81\xa1x", &[0x91; 100_000][..]].concat(), 0, "depth limit exceeded"),
        (vec![0; 150_000], 1, "a truncated frame"),
        (vec![1, 0x92], 0, "an empty frame"),
        (vec![2], 1, "not a sealed memfd"),
        (trailing, 0, "bytes after a frame's end"),
        (rmp_serde::to_vec(&(1, "Unheard")).map(|it| [vec![0], it].concat()).unwrap(), 0, "unknown variant `Unheard`"),
        (frame(2, &Reply::Opened(vec![None, None])), 2, unasked),
        (frame(0, &Reply::Done), 0, unasked),
        (frame(1, &Reply::Done), 0, other),
        (frame(1, &Reply::Hello(1)), 0, other),
        (frame(1, &Reply::Started), 1, surplus),
        (frame(1, &Reply::Ended(report())), 0, other),
        (frame(1, &Reply::Failed(failure(Step::Open).unwrap())), 1, surplus),
        (frame(1, &Reply::Opened(vec![None])), 1, misfit),
        (frame(1, &Reply::Opened(vec![None, None])), 0, misfit),
        (frame(1, &Reply::Opened(vec![None, None])), 1, misfit),
        (frame(1, &Reply::Opened(vec![None, None])), 3, misfit),
        (frame(1, &Reply::Opened(vec![None, failure(Step::Open), None])), 2, misfit),
        // Of the right number, but pipes.
        (frame(1, &Reply::Opened(vec![None, None])), 2, misfit),
    ];
    for (bytes, fds, word) in answers {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let (container, init) = served_by(move |socket| {
            let _request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
            socket::send(&socket, &bytes, &vec![writer.as_fd(); fds], true).unwrap();
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

/// A container whose first request is answered with this, and this comes along.
fn answered_with(reply: Reply, fd: Option<OwnedFd>) -> (Container, thread::JoinHandle<()>) {
    served_by(move |socket| {
        let request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
        for datagram in wire::encode(request.id, &reply, fd.into_iter().map(Arc::new).collect()).unwrap() {
            datagram.send(&socket, true).unwrap();
        }
    })
}

/// The reason for which the container died, which every later call gives too.
async fn lost<T: std::fmt::Debug>(container: &Container, result: Result<T>) -> String {
    let said = result.unwrap_err().to_string();
    assert_eq!(container.death().await.to_string(), said);
    assert_eq!(container.delete("f").await.unwrap_err().to_string(), said);
    said
}

#[tokio::test]
async fn a_ping_that_fails_ends_the_container() {
    let (container, init) = answered_with(Reply::Failed(Failure::new(Step::Open, nix::Error::ENOENT)), None);
    let said = lost(&container, container.ping(Duration::from_secs(5)).await).await;
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
async fn a_process_named_by_what_is_no_pidfd_ends_the_container() {
    let (container, init) = answered_with(Reply::Forked, Some(std::fs::File::open("/dev/null").unwrap().into()));
    let mut command = Command::new("/bin/true");
    command.pid_hook(|pid, _| async move { panic!("{pid} is shown") });
    let said = lost(&container, container.run(&command).await).await;
    assert!(said.contains("what is no pidfd"), "{said}");
    init.join().unwrap();
}

#[tokio::test]
async fn an_init_that_ends_without_having_read_everything_has_ended() {
    let (container, init) = served_by(|socket| {
        // The request is there, and unread.
        let mut fds = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 5000_u16).unwrap();
    });
    let error = container.ping(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.to_string(), "the container is lost: serve: the init ended");
    init.join().unwrap();
}

#[tokio::test]
async fn an_answer_that_fits_is_delivered() {
    let (container, init) = served_by(|socket| {
        let file: Arc<OwnedFd> = Arc::new(std::fs::File::open("/bin/true").unwrap().into());
        let request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
        let failure = Some(Failure::new(Step::Open, nix::Error::ENOENT));
        for datagram in wire::encode(request.id, &Reply::Opened(vec![failure, None]), vec![file]).unwrap() {
            datagram.send(&socket, true).unwrap();
        }
        // And then its end, which the container must notice by itself.
    });
    let results = container.open([OpenFile::read("a"), OpenFile::read("b")]).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert!(results[1].is_ok());
    assert_eq!(container.death().await.kind(), ErrorKind::Lost);
    init.join().unwrap();
}

#[tokio::test]
async fn a_surplus_answer_ends_an_idle_container() {
    let (container, init) = served_by(|socket| {
        let request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
        for _ in 0..2 {
            socket::send(&socket, &frame(request.id, &Reply::Done), &[], true).unwrap();
        }
        // Alive until the container gives it up.
        let _nothing = Decoder::new(Peer::Host).receive::<Request>(&socket, true);
    });
    container.ping(Duration::from_secs(5)).await.unwrap();
    // The second answer is seen at the next occasion at the latest.
    drop(container.ping(Duration::from_millis(100)).await);
    let death = container.death().await;
    assert!(death.to_string().contains("the init answered what nobody had asked: Done"), "{death}");
    assert_eq!(container.delete("f").await.unwrap_err().to_string(), death.to_string());
    init.join().unwrap();
}

#[tokio::test]
async fn what_waits_when_the_mailbox_is_full_is_told_too() {
    let (container, init) = served_by(|socket| {
        let _request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
    });
    let pings = (0..300).map(|_| container.ping(Duration::from_secs(5)));
    let results = futures::future::join_all(pings).await;
    assert!(results.into_iter().all(|result| result.unwrap_err().kind() == ErrorKind::Lost));
    init.join().unwrap();
}

#[tokio::test]
async fn a_container_whose_reset_fails_between_two_leases_ends() {
    let (container, init) = served_by(|socket| {
        let request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
        assert!(matches!(request.body, Request::Reset));
        let failed = Reply::Failed(Failure::new(Step::Unmount, nix::Error::EBUSY));
        socket::send(&socket, &frame(request.id, &failed), &[], true).unwrap();
        assert!(Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().is_none(), "it is asked no more");
    });
    container.give_back();
    assert_eq!(container.renew().await.unwrap_err().failed_step(), Some(Step::Unmount));
    container.retire().await;
    assert_eq!(container.ping(Duration::from_secs(5)).await.unwrap_err().kind(), ErrorKind::Returned);
    init.join().unwrap();
}

#[tokio::test]
async fn what_a_handle_sends_after_its_lease_reaches_no_init() {
    let (container, init) = served_by(|socket| {
        let mut decoder = Decoder::new(Peer::Host);
        for expected in ["Reset", "Ping"] {
            let request = decoder.receive::<Request>(&socket, true).unwrap().unwrap();
            assert_eq!(format!("{:?}", request.body), expected);
            socket::send(&socket, &frame(request.id, &Reply::Done), &[], true).unwrap();
        }
    });
    container.give_back();
    let next = container.renew().await.unwrap();
    // As one does that was about to send when its lease ended.
    let (answer, answered) = oneshot::channel();
    let late = Message::Ask(Request::Delete("f".into()), PendingReply::Deleted(answer));
    container.post(late).await.unwrap();
    assert_eq!(container.answer(answered).await.unwrap_err().kind(), ErrorKind::Returned);
    container.condemn();
    next.ping(Duration::from_secs(5)).await.expect("nor does it end the container");
    init.join().unwrap();
}

#[tokio::test]
async fn a_process_that_is_not_the_inits_own_is_shown_to_no_hook() {
    let (container, init) = served_by(|socket| {
        let request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
        let own = Arc::new(crate::sys::process::Pidfd::of_self().unwrap());
        for datagram in wire::encode(request.id, &Reply::Forked, vec![own]).unwrap() {
            datagram.send(&socket, true).unwrap();
        }
    });
    let mut command = Command::new("/bin/true");
    command.pid_hook(|pid, _| async move { panic!("{pid} is shown") });
    let error = container.run(&command).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("not its own"), "{error}");
    init.join().unwrap();
}

#[tokio::test]
async fn a_process_that_nobody_waits_to_see_ends_the_container() {
    let (container, init) = served_by(|socket| {
        let request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
        let own = Arc::new(crate::sys::process::Pidfd::of_self().unwrap());
        for datagram in wire::encode(request.id, &Reply::Forked, vec![own]).unwrap() {
            datagram.send(&socket, true).unwrap();
        }
    });
    assert_eq!(container.run(&Command::new("/bin/true")).await.unwrap_err().kind(), ErrorKind::Lost);
    init.join().unwrap();
}

#[tokio::test]
async fn a_run_that_cannot_be_sent_after_all_leaves_its_turn_to_the_next() {
    let (host, socket) = socket::pair().unwrap();
    nix::sys::socket::setsockopt(&host, nix::sys::socket::sockopt::SndBuf, &(16 << 10)).unwrap();
    let same = host.try_clone().unwrap();
    let container = on_socket(host, Duration::from_secs(5));
    let ((received, are_received), (go, on)) = (oneshot::channel(), std::sync::mpsc::channel());
    let init = thread::spawn(move || {
        let mut decoder = Decoder::new(Peer::Host);
        let mut next = || decoder.receive::<Request>(&socket, true).unwrap().unwrap();
        let answer = |id, reply| socket::send(&socket, &frame(id, &reply), &[], true).unwrap();
        let (first, ping) = (next().id, next().id);
        received.send(()).unwrap();
        on.recv().unwrap();
        answer(first, Reply::Ended(report()));
        answer(ping, Reply::Done);
        on.recv().unwrap();
        while !matches!(next().body, Request::Kill(id, _) if id == first) {}
        // A kill is followed by the question whether the init still answers.
        assert!(matches!(next().body, Request::Ping));
        let third = next();
        assert!(matches!(third.body, Request::StartRun(_)), "{:?}", third.body);
        answer(third.id, Reply::Ended(report()));
    });
    let (small, mut large) = (Command::new("/bin/true"), Command::new("/bin/true"));
    large.args(["x".repeat(64 << 10)]);
    let (mut first, mut second) = (Box::pin(container.run(&small)), Box::pin(container.run(&large)));
    let mut ping = Box::pin(container.ping(Duration::from_secs(5)));
    assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut ping).is_pending());
    are_received.await.unwrap();

    let filler = wire::encode(0, &Request::Ping, Vec::new()).unwrap();
    while filler[0].send(&same, false).is_ok() {}
    // Its kill waits for room, and the second run then behind that. So the kernel says only later that it is too large.
    drop(first);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    ping.await.unwrap();
    go.send(()).unwrap();
    assert_eq!(second.await.unwrap_err().failed_step(), Some(Step::Send));
    let third = tokio::time::timeout(Duration::from_secs(5), container.run(&small)).await;
    third.expect("its turn comes").unwrap();
    init.join().unwrap();
}

#[tokio::test]
async fn what_an_init_says_is_shown_in_part_and_without_control_characters() {
    let variant = rmp_serde::to_vec(&(1, format!("\x1b[31m{}", "y".repeat(100_000)))).unwrap();
    let path = std::path::PathBuf::from("z".repeat(100_000));
    for answer in [
        [vec![0], variant].concat(),
        frame(1, &Reply::Opened(vec![None; 100_000])),
        frame(1, &Reply::Opened(vec![Some(Failure::at(Step::Open, path, nix::Error::ENOENT))])),
    ] {
        let (container, init) = served_by(move |socket| {
            let _request = Decoder::new(Peer::Host).receive::<Request>(&socket, true).unwrap().unwrap();
            socket::send(&socket, &answer, &[], true).unwrap();
        });
        let said = container.ping(Duration::from_secs(5)).await.unwrap_err().to_string();
        assert!(said.len() < 10_000 && !said.contains(char::is_control), "{} bytes: {said:?}", said.len());
        init.join().unwrap();
    }
}

#[tokio::test]
async fn a_panic_of_the_actors_task_is_told_to_everybody_and_ends_the_init() {
    let (host, init) = socket::pair().unwrap();
    let (mailbox, messages) = mpsc::channel(4);
    let shared = Arc::new(Shared::default());
    let record = RecordDeath(Arc::clone(&shared));
    let launched = Launched::without_an_init(host).unwrap();
    let process = launched.init.pid().unwrap();
    let actor = Actor::serve_to_the_end(launched, messages, record, Duration::from_secs(5));
    let task = tokio::spawn(async {
        tokio::select! {
            () = actor => {}
            () = tokio::time::sleep(Duration::from_millis(50)) => panic!("on purpose"),
        }
    });
    let container = Container { mailbox, shared, made: ContainerInfo::for_tests(), terms: LeaseLimits::default() };
    let (waiting, queued) = tokio::join!(container.ping(Duration::from_secs(5)), container.delete("x"));
    for result in [waiting, queued, container.reset().await] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert!(task.await.unwrap_err().is_panic());
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while Path::new(&format!("/proc/{process}")).exists() {
        assert!(std::time::Instant::now() < end, "the init is still there");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(init);
}

#[tokio::test]
async fn an_init_that_does_not_end_a_run_at_its_time_is_given_up() {
    // One that is stuck, and one that is not.
    for (answers, said) in [(false, "owed an answer for 50ms"), (true, "did not end a run at its time")] {
        let (container, init) = served_with_patience(Duration::from_millis(50), move |socket| {
            let mut decoder = Decoder::new(Peer::Host);
            let run = decoder.receive::<Request>(&socket, true).unwrap().unwrap();
            // Long enough for the container to look at its clock.
            thread::sleep(Duration::from_millis(20));
            socket::send(&socket, &frame(run.id, &Reply::Ended(report())), &[], true).unwrap();
            while let Ok(Some(request)) = decoder.receive::<Request>(&socket, true) {
                if answers && matches!(request.body, Request::Ping) {
                    socket::send(&socket, &frame(request.id, &Reply::Done), &[], true).unwrap();
                }
            }
        });
        let mut command = Command::new("/bin/sleep");
        // The first one has much more time.
        container.run(&command).await.unwrap();
        let limits =
            crate::limits::Limits::new().wall_time(Duration::from_millis(100)).memory(1 << 20).allow_weaker(true);
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
async fn a_run_that_is_slow_to_die_is_waited_for_while_the_init_answers() {
    let (container, init) = served_with_patience(Duration::from_millis(50), |socket| {
        let mut decoder = Decoder::new(Peer::Host);
        let mut next = || decoder.receive::<Request>(&socket, true).unwrap().unwrap();
        let run = next();
        let end = std::time::Instant::now() + Duration::from_millis(500);
        while std::time::Instant::now() < end {
            let ping = next();
            assert!(matches!(ping.body, Request::Ping));
            socket::send(&socket, &frame(ping.id, &Reply::Done), &[], true).unwrap();
        }
        socket::send(&socket, &frame(run.id, &Reply::Ended(report())), &[], true).unwrap();
    });
    let mut command = Command::new("/bin/sleep");
    command.limits(crate::limits::Limits::new().wall_time(Duration::from_millis(50)));
    container.run(&command).await.unwrap();
    init.join().unwrap();
}
