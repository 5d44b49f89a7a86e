//! Messages through a real socket, and what is none.

use super::*;

fn exchange(request: Request, fds: usize) -> Message<Request> {
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
    let message = exchange(Request::Kill(3), 2);
    assert!(matches!(message, Message { id: 7, body: Request::Kill(3), .. }));
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
    let execve = Execve {
        program: Program::Named("x".into()),
        args: args.clone(),
        env: Strings::default(),
        work_dir: None,
        fds: Vec::new(),
        terminal: None,
        gate: false,
        rlimits: Vec::new(),
    };
    let message = exchange(Request::Execve(execve), 1);
    let Request::Execve(execve) = message.body else { panic!("another request") };
    assert_eq!(execve.args, args);
    assert_eq!(message.fds.len(), 1, "the payload's own fd is not among the message's");
}

/// What the init is sent by `bytes`, and what the host makes of it.
fn host_receives(bytes: &[u8], fds: &[File]) -> Result<Option<Message<Reply>>, Broken> {
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
    let nested: Vec<u8> = std::iter::once(0).chain(std::iter::repeat_n(0x91, 100_000)).collect();
    assert!(matches!(host_receives(&nested, &[]), Err(Broken::Decode(_))));
    // An array said to hold 2^32 - 1 results: nothing is allocated for what is not there.
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
