//! The init's side of the socket, spoken to by hand: when it ends, with what status, and what it says then.
#![allow(missing_docs)]

mod common;

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::init_exe;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::Serialize;

/// Stage one of an init, after its hello: it has unshared, and waits to be told that its ids are mapped.
struct Init {
    process: Child,
    socket: OwnedFd,
}

impl Init {
    fn start() -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let mut command = Command::new(init_exe());
        let process = command.arg("cellblock:init").stdin(Stdio::from(theirs)).stderr(Stdio::piped()).spawn().unwrap();
        let init = Self { process, socket };
        assert_eq!(init.receive(), frame(&(0, Hello::Hello(2))));
        init
    }

    /// The same after its ids are mapped: pid 1 is there, and waits for its configuration. Its pidfd is not received.
    fn with_pid_1() -> Self {
        let init = Self::start();
        let pid = init.process.id();
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").unwrap();
        std::fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1")).unwrap();
        std::fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1")).unwrap();
        init.send(&frame(&(0, "Start")));
        assert_eq!(init.receive(), frame(&(0, "Started")));
        init
    }

    /// The same with a root file system that is empty but for its working directory.
    fn configured() -> Self {
        let init = Self::with_pid_1();
        init.send(&configure());
        assert_eq!(init.receive(), frame(&(1, "Done")));
        init
    }

    fn send(&self, bytes: &[u8]) {
        assert_eq!(send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL), Ok(bytes.len()));
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let size = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        buffer.truncate(size);
        buffer
    }

    /// The exit status of stage one, and what the init said on stderr. Both are there only when every process is gone.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
        (self.process.wait().unwrap().code(), said)
    }
}

#[derive(Serialize)]
enum Hello {
    Hello(u32),
}

#[derive(Serialize)]
enum Configure {
    /// Mounts, links, masks, the program's ids, host name, domain name, working directory.
    Configure(((), (), (), (u32, u32), &'static str, &'static str, &'static serde_bytes::Bytes)),
}

fn configure() -> Vec<u8> {
    let mut bytes = frame(&(1, Configure::Configure(((), (), (), (0, 0), "h", "d", serde_bytes::Bytes::new(b"/w")))));
    // Empty arrays, where serde has empty values.
    bytes.iter_mut().filter(|byte| **byte == 0xc0).for_each(|byte| *byte = 0x90);
    bytes
}

fn frame(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0];
    rmp_serde::encode::write(&mut bytes, message).unwrap();
    bytes
}

/// Frames that no init may accept, and a word of what it must say to each.
fn broken_frames() -> Vec<(Vec<u8>, &'static str)> {
    let mut trailing = frame(&(0, "Start"));
    trailing.push(0);
    let nested = [vec![0], vec![0x91; 100_000]].concat();
    vec![
        (b"\x00garbage".to_vec(), "does not decode"),
        (vec![0], "does not decode"),
        (vec![0xff, 1, 2], "unknown header"),
        (vec![1, 1, 2], "empty frame"),
        (vec![2], "memfd"),
        (nested, "does not decode"),
        (vec![0, 0x92, 0, 0x81, 0xa4, b'O', b'p', b'e', b'n', 0xdd, 0xff, 0xff, 0xff, 0xff], "does not decode"),
        (vec![0; 150_000], "truncated"),
        (frame(&(0, "Unheard")), "unknown variant `Unheard`"),
        (trailing, "bytes after"),
    ]
}

#[test]
fn it_exits_0_when_its_socket_closes() {
    let Init { process, socket } = Init::start();
    drop(socket);
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn it_exits_1_on_a_broken_frame_and_says_why() {
    for (bytes, word) in broken_frames() {
        let init = Init::start();
        init.send(&bytes);
        let (code, said) = init.end();
        assert_eq!(code, Some(1), "{word}");
        assert!(said.contains(word), "expected {word}: {said}");
    }
}

#[test]
fn a_request_out_of_place_is_its_end() {
    for request in ["Ping", "Reset"] {
        let init = Init::start();
        init.send(&frame(&(0, request)));
        let (code, said) = init.end();
        assert_eq!(code, Some(1));
        assert!(said.contains("out of place (Unshared)") && said.contains(request), "{said}");
    }
    for request in ["Ping", "Start", "Reset"] {
        let init = Init::with_pid_1();
        init.send(&frame(&(0, request)));
        let (code, said) = init.end();
        assert_eq!(code, Some(0), "stage one had done its work");
        assert!(said.contains("out of place (Born)") && said.contains(request), "{said}");
    }
}

#[test]
fn a_serving_init_has_no_second_start() {
    for request in [frame(&(0, "Start")), configure()] {
        let init = Init::configured();
        init.send(&frame(&(7, "Ping")));
        assert_eq!(init.receive(), frame(&(7, "Done")), "the control");
        init.send(&request);
        let (_, said) = init.end();
        assert!(said.contains("out of place (Idle)"), "{said}");
    }
}

#[test]
fn pid_1_dies_of_broken_frames_too() {
    for (bytes, word) in broken_frames() {
        let init = Init::with_pid_1();
        init.send(&bytes);
        let (_, said) = init.end();
        assert!(said.contains(word), "expected {word}: {said}");
    }
}

#[test]
fn it_does_nothing_unless_it_was_started_to_be_an_init() {
    let (_socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let (_stream, stream) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let start = |argument: &[&str], stdin| {
        let output = Command::new(init_exe()).args(argument).stdin(stdin).output().unwrap();
        (output.status.code(), output.stderr)
    };
    let nothing = (Some(0), Vec::new());
    assert_eq!(start(&["cellblock:init"], Stdio::null()), nothing, "no socket");
    assert_eq!(start(&["cellblock:init"], Stdio::from(stream)), nothing, "another kind of socket");
    assert_eq!(start(&[], Stdio::from(theirs.try_clone().unwrap())), nothing, "no argument");
    assert_eq!(start(&["other", "cellblock:init"], Stdio::from(theirs)), nothing, "not the first argument");
}
