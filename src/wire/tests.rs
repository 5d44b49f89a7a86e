//! Messages through a real socket, and broken ones.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::resource::Resource;

use super::datagram::{IN_MEMFD, MAX_PAYLOAD, MORE_FDS};
use super::*;
use crate::sys::memory;
use crate::sys::socket::{self, MAX_FDS_PER_DATAGRAM};

fn exchange(request: Request, fds: usize) -> Frame<Request> {
    let (host, init) = socket::pair().unwrap();
    let null: Arc<OwnedFd> = Arc::new(File::open("/dev/null").unwrap().into());
    let datagrams = encode(7, &request, vec![null; fds]).unwrap();
    let sender = std::thread::spawn(move || {
        for datagram in datagrams {
            datagram.send(&host, true).unwrap();
        }
    });
    let message = Decoder::new(Peer::Host).receive(&init, true).unwrap().unwrap();
    sender.join().unwrap();
    message
}

#[test]
fn a_message_arrives_with_its_fds() {
    let message = exchange(Request::Kill(3, KillReason::Request), 2);
    assert!(matches!(message, Frame { id: 7, body: Request::Kill(3, KillReason::Request), .. }));
    assert_eq!(message.fds.len(), 2);
}

#[test]
fn more_fds_than_a_datagram_takes_arrive_in_several() {
    let message = exchange(Request::Ping, 600);
    assert!(matches!(message.body, Request::Ping));
    assert_eq!(message.fds.len(), 600);
}

#[test]
fn a_payload_over_the_datagram_arrives_in_a_memfd() {
    let mut args = Strings::default();
    args.push(&[&[b'x'; 3 << 20]]);
    let execve = StartRun {
        program: "x".into(),
        args: args.clone(),
        env: Strings::default(),
        default_env: DefaultVariables::AllBut(Strings::default()),
        work_dir: None,
        fds: Vec::new(),
        terminal: None,
        announce: false,
        rlimits: Vec::new(),
        affinity: Vec::new(),
        times: Times::default(),
        throttled: false,
        filter: Vec::new(),
    };
    let message = exchange(Request::StartRun(execve), 1);
    let Request::StartRun(execve) = message.body else { panic!("another request") };
    assert_eq!(execve.args, args);
    assert_eq!(message.fds.len(), 1, "the payload's memfd is not among the message's descriptors");
}

/// Sends bytes as an init does, and receives them as the host does.
fn host_receives(bytes: &[u8], fds: &[File]) -> Result<Option<Frame<Reply>>, Broken> {
    let (host, init) = socket::pair().unwrap();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    socket::send(&init, bytes, &fds, true).unwrap();
    Decoder::new(Peer::Init).receive(&host, true)
}

#[test]
fn garbage_is_broken() {
    let mut trailing = vec![0];
    rmp_serde::encode::write(&mut trailing, &(1, Reply::Done)).unwrap();
    assert!(matches!(host_receives(&trailing, &[]), Ok(Some(_))), "the control");
    trailing.push(0xc0);
    assert!(matches!(host_receives(&trailing, &[]), Err(Broken::Trailing)));
    assert!(matches!(host_receives(&[0xff, 0], &[]), Err(Broken::Header(0xff))));
    assert!(matches!(host_receives(&[0], &[]), Err(Broken::Decode(_))));
    assert!(matches!(host_receives(&[0, 0xc1], &[]), Err(Broken::Decode(_))));
    // In an unknown field, which the decoder skips: everywhere else the types bound the depth.
    let nested = [b"\0\x92\x01\x81\xa6Failed\x81\xa1x", &[0x91; 100_000][..]].concat();
    let error = host_receives(&nested, &[]).unwrap_err();
    assert!(matches!(error, Broken::Decode(rmp_serde::decode::Error::DepthLimitExceeded)), "{error}");
    // An array that claims to hold 2^32 - 1 results: the decoder allocates nothing for missing
    // ones.
    let long = [&[0, 0x92, 1, 0x81, 0xa6][..], b"Opened", &[0xdd, 0xff, 0xff, 0xff, 0xff]].concat();
    assert!(matches!(host_receives(&long, &[]), Err(Broken::Decode(_))));
}

#[test]
fn an_init_may_not_send_a_payload_in_a_file() {
    let file = File::open("/dev/zero").unwrap();
    assert!(matches!(host_receives(&[IN_MEMFD], &[file]), Err(Broken::Memfd)));
}

#[test]
fn a_frame_over_the_limit_is_truncated_and_leaks_no_fd() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    assert!(matches!(host_receives(&vec![0; MAX_INLINE + 2], &[writer.into()]), Err(Broken::Io(_))));
    assert_eq!(nix::unistd::read(&reader, &mut [0]), Ok(0), "the writing end is closed everywhere");
}

#[test]
fn more_fds_than_a_message_may_carry_are_refused_and_closed() {
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < 4 * MAX_FDS as u64 {
        // The machine's limit would come first, and would disturb the other tests.
        return;
    }
    nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    for peer in [Peer::Host, Peer::Init] {
        let (theirs, ours) = socket::pair().unwrap();
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let mut decoder = Decoder::new(peer);
        let mut next = || {
            socket::send(&theirs, &[MORE_FDS], &[writer.as_fd(); MAX_FDS_PER_DATAGRAM], true).unwrap();
            decoder.receive::<Reply>(&ours, false).unwrap_err()
        };
        for _ in 0..MAX_FDS / MAX_FDS_PER_DATAGRAM {
            assert!(matches!(next(), Broken::Io(error) if error.kind() == io::ErrorKind::WouldBlock));
        }
        assert!(matches!(next(), Broken::TooManyFds));
        drop((decoder, writer));
        assert_eq!(nix::unistd::read(&reader, &mut [0]), Ok(0), "all are closed");
    }
}

#[test]
fn a_payload_in_a_file_is_sealed_and_of_a_bounded_size() {
    let receive = |memfd: OwnedFd| {
        let (host, init) = socket::pair().unwrap();
        socket::send(&host, &[IN_MEMFD], &[memfd.as_fd()], true).unwrap();
        Decoder::new(Peer::Host).receive::<Request>(&init, true)
    };
    let ping = rmp_serde::to_vec(&(1, Request::Ping)).unwrap();
    assert!(receive(memory::sealed("sealed", &ping).unwrap()).is_ok(), "the control");
    let larger = memory::sealed("larger", &vec![0; MAX_PAYLOAD + 1]).unwrap();
    assert!(matches!(receive(larger), Err(Broken::TooLarge)));
    let open = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut &open, &ping).unwrap();
    assert!(matches!(receive(open.into()), Err(Broken::Memfd)));
}
