//! The init's side of the protocol. The test plays the host and sends frames that no host sends.
//!
//! The init exits on each of them, with a status and a message, and keeps no descriptor.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, send, sendmsg, socketpair};
use nix::unistd::pipe2;
use serde::Serialize;

use crate::common::{cc_static, init_exe, open_dir, turn};

/// Stage one of an init, after its hello. It has unshared and waits for its ids to be mapped.
struct Init {
    process: Child,
    socket: OwnedFd,
}

impl Init {
    fn start() -> Self {
        Self::start_through(Command::new(init_exe()))
    }

    /// An init whose limit of open files is `count`.
    fn start_with_few_descriptors(count: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("ulimit -n {count}; exec \"$0\" \"$@\"")).arg(init_exe());
        Self::start_through(shell)
    }

    fn start_through(mut command: Command) -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let process = command.arg("cellblock:init").stdin(Stdio::from(theirs)).stderr(Stdio::piped()).spawn().unwrap();
        let init = Self { process, socket };
        assert_eq!(init.receive(), frame(&(0, Hello::Hello(6))));
        init
    }

    /// An init whose ids are mapped: pid 1 exists and waits for its configuration. This side does
    /// not receive the pidfd.
    fn with_pid_1() -> Self {
        let init = Self::start();
        let pid = init.process.id();
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny").unwrap();
        std::fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1")).unwrap();
        std::fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1")).unwrap();
        init.send(&start());
        assert_eq!(init.receive(), frame(&(0, "Started")));
        init
    }

    /// An init with a root file system that holds only the working directory.
    fn configured() -> Self {
        let init = Self::with_pid_1();
        init.send(&configure());
        assert_eq!(init.receive(), frame(&(1, "Done")));
        init
    }

    fn send(&self, bytes: &[u8]) {
        assert_eq!(send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL), Ok(bytes.len()));
    }

    fn send_with(&self, bytes: &[u8], fds: &[i32]) {
        let control = [ControlMessage::ScmRights(fds)];
        let sent =
            sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_NOSIGNAL, None);
        assert_eq!(sent, Ok(bytes.len()));
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let size = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        buffer.truncate(size);
        buffer
    }

    /// The exit status of stage one and the stderr of the init, once every process has ended.
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
#[expect(clippy::type_complexity, reason = "it is what the request is made of")]
enum Configure {
    /// Mounts, links, masks, program ids, host name, domain name, working directory, variables,
    /// filter, cgroup kind, loopback, roles of descriptors.
    Configure(
        (
            (),
            (),
            (),
            (u32, u32),
            &'static str,
            &'static str,
            &'static serde_bytes::Bytes,
            &'static serde_bytes::Bytes,
            &'static str,
            bool,
            bool,
            (),
        ),
    ),
}

fn start() -> Vec<u8> {
    frame(&(0, serde_json::json!({ "Start": {"cgroup_namespace": true} })))
}

fn configure() -> Vec<u8> {
    let work_dir = serde_bytes::Bytes::new(b"/w");
    let env = serde_bytes::Bytes::new(b"");
    let parts = ((), (), (), (0, 0), "h", "d", work_dir, env, "Off", false, false, ());
    let mut bytes = frame(&(1, Configure::Configure(parts)));
    // Replaces the nils that serde writes for `()` with empty arrays.
    bytes.iter_mut().filter(|byte| **byte == 0xc0).for_each(|byte| *byte = 0x90);
    bytes
}

fn frame(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0];
    rmp_serde::encode::write(&mut bytes, message).unwrap();
    bytes
}

/// Frames that an init must refuse, each with a part of its message.
fn broken_frames() -> Vec<(Vec<u8>, &'static str)> {
    let mut trailing = start();
    trailing.push(0);
    // An unknown field is skipped, so its nesting has no limit of its own.
    let nested = [b"\0\x92\0\x81\xa8StartRun\x81\xa1x", &[0x91; 100_000][..]].concat();
    vec![
        (b"\x00garbage".to_vec(), "does not decode"),
        (vec![0], "does not decode"),
        (vec![0xff, 1, 2], "unknown header"),
        (vec![1, 1, 2], "empty frame"),
        (vec![2], "memfd"),
        (nested, "depth limit exceeded"),
        (vec![0, 0x92, 0, 0x81, 0xa4, b'O', b'p', b'e', b'n', 0xdd, 0xff, 0xff, 0xff, 0xff], "does not decode"),
        (vec![0; 150_000], "truncated"),
        (frame(&(0, "Unheard")), "unknown variant `Unheard`"),
        (trailing, "bytes after"),
    ]
}

#[test]
fn the_init_exits_with_0_when_its_socket_closes() {
    let _turn = turn();
    let Init { process, socket } = Init::start();
    drop(socket);
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_init_exits_with_1_on_a_broken_frame_and_says_why() {
    let _turn = turn();
    for (bytes, word) in broken_frames() {
        let init = Init::start();
        init.send(&bytes);
        let (code, said) = init.end();
        assert_eq!(code, Some(1), "{word}");
        assert!(said.contains(word), "expected {word}: {said}");
    }
}

#[test]
fn the_init_exits_on_a_request_out_of_order() {
    let _turn = turn();
    for request in ["Ping", "Reset", "Freeze"] {
        let init = Init::start();
        init.send(&frame(&(0, request)));
        let (code, said) = init.end();
        assert_eq!(code, Some(1));
        assert!(said.contains("out of place (Unshared)") && said.contains(request), "{said}");
    }
    for (request, bytes) in [
        ("Ping", frame(&(0, "Ping"))),
        ("Start", start()),
        ("Reset", frame(&(0, "Reset"))),
        ("Freeze", frame(&(0, "Freeze"))),
        ("StartBeside", beside(3, 0, serde_json::json!([]))),
        ("Signal", signal(3, 0, 9)),
    ] {
        let init = Init::with_pid_1();
        init.send(&bytes);
        let (code, said) = init.end();
        assert_eq!(code, Some(0), "stage one has ended before");
        assert!(said.contains("out of place (Born)") && said.contains(request), "{said}");
    }
}

/// Requests about files, each with the beginning of its reply.
fn file_requests() -> Vec<(Vec<u8>, &'static str)> {
    let path = |name: &'static str| serde_bytes::Bytes::new(name.as_bytes());
    vec![
        (frame(&(7, Asked::MakeDirectories([(path("/w/d"), 0o755)]))), "Each"),
        (frame(&(7, Asked::Rename((path("/w"), path("/e"))))), "Failed"),
        (frame(&(7, Asked::Metadata(path("/w")))), "Metadata"),
        (frame(&(7, Asked::OpenDirectory(path("/w")))), "Directory"),
        (frame(&(7, Asked::ReadLink(path("/w")))), "Failed"),
        (frame(&(7, Asked::Delete([path("/w/e")]))), "Each"),
    ]
}

#[derive(Serialize)]
enum Asked {
    MakeDirectories([(&'static serde_bytes::Bytes, u32); 1]),
    Rename((&'static serde_bytes::Bytes, &'static serde_bytes::Bytes)),
    Metadata(&'static serde_bytes::Bytes),
    OpenDirectory(&'static serde_bytes::Bytes),
    ReadLink(&'static serde_bytes::Bytes),
    Delete([&'static serde_bytes::Bytes; 1]),
}

#[test]
fn requests_about_files_are_answered_once_the_container_is_built() {
    let _turn = turn();
    let init = Init::configured();
    for (request, reply) in file_requests() {
        init.send(&request);
        let answer = init.receive();
        assert!(answer.windows(reply.len()).any(|it| it == reply.as_bytes()), "{reply}: {answer:?}");
    }
    for (request, _) in file_requests() {
        let init = Init::with_pid_1();
        init.send(&request);
        let (_, said) = init.end();
        assert!(said.contains("out of place (Born)"), "{said}");
    }
}

#[test]
fn the_init_exits_on_a_second_start() {
    let _turn = turn();
    for request in [start(), configure()] {
        let init = Init::configured();
        init.send(&frame(&(7, "Ping")));
        assert_eq!(init.receive(), frame(&(7, "Done")), "the control");
        init.send(&request);
        let (_, said) = init.end();
        assert!(said.contains("out of place (Idle)"), "{said}");
    }
}

#[test]
fn pid_1_exits_on_a_broken_frame() {
    let _turn = turn();
    for (bytes, word) in broken_frames() {
        let init = Init::with_pid_1();
        init.send(&bytes);
        let (_, said) = init.end();
        assert!(said.contains(word), "expected {word}: {said}");
    }
}

/// A pipe. A read returns 0 once every copy of the writing end is closed.
fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    (reader.into(), writer)
}

fn memfd(size: usize, seals: SealFlag) -> File {
    let memfd = memfd_create("payload", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let mut memfd = File::from(memfd);
    memfd.write_all(&vec![0; size]).unwrap();
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    memfd
}

#[test]
fn the_init_accepts_only_sealed_payload_files_below_the_size_limit() {
    let _turn = turn();
    let sealed = SealFlag::all() - SealFlag::F_SEAL_FUTURE_WRITE;
    for (file, word) in [
        (File::open("/dev/zero").unwrap(), "not a sealed memfd"),
        (memfd(10, sealed - SealFlag::F_SEAL_WRITE), "not a sealed memfd"),
        (memfd((16 << 20) + 1, sealed), "over the size limit"),
        (memfd(10, sealed), "does not decode"),
    ] {
        let init = Init::start();
        init.send_with(&[2], &[file.as_raw_fd()]);
        let (code, said) = init.end();
        assert!(code == Some(1) && said.contains(word), "expected {word}: {said}");
    }
}

#[test]
fn the_init_exits_on_more_descriptors_than_a_message_may_carry() {
    let _turn = turn();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    if hard < 8192 {
        // The limit of open files is lower than the protocol's. The next test covers that.
        return;
    }
    let (mut reader, writer) = pipe();
    let init = Init::configured();
    for _ in 0..4096 / 253 {
        init.send_with(&[1], &[writer.as_raw_fd(); 253]);
    }
    init.send_with(&[0], &[writer.as_raw_fd(); 253]);
    let (_, said) = init.end();
    assert!(said.contains("more file descriptors than a message may carry"), "{said}");
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "all are closed");
}

#[test]
fn the_init_exits_on_descriptors_that_do_not_fit_in_its_table() {
    let _turn = turn();
    let init = Init::start_with_few_descriptors(30);
    let (mut reader, writer) = pipe();
    init.send_with(&start(), &[writer.as_raw_fd(); 100]);
    let (code, said) = init.end();
    assert!(code == Some(1) && said.contains("no room for its descriptors"), "{said}");
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "all are closed");
}

#[test]
fn the_init_closes_descriptors_that_a_request_does_not_need() {
    let _turn = turn();
    let init = Init::configured();
    let (mut reader, writer) = pipe();
    for request in ["Ping", "Reset", "Freeze"] {
        init.send_with(&frame(&(7, request)), &[writer.as_raw_fd(); 3]);
        assert_eq!(init.receive(), frame(&(7, "Done")));
    }
    init.send_with(&start_run(8), &[writer.as_raw_fd(); 3]);
    assert!(init.receive().windows(7).any(|it| it == b"PlaceFd"), "the request has more descriptors than it names");
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "all are closed");
    init.send(&frame(&(9, "Ping")));
    assert_eq!(init.receive(), frame(&(9, "Done")));
}

#[test]
fn the_init_answers_a_repeated_request_id_twice() {
    let _turn = turn();
    let init = Init::configured();
    for _ in 0..2 {
        init.send(&frame(&(7, "Ping")));
    }
    assert_eq!([init.receive(), init.receive()], [frame(&(7, "Done")), frame(&(7, "Done"))]);
    // Killing a run that does not exist does nothing and sends nothing.
    for _ in 0..2 {
        init.send(&frame(&(0, serde_json::json!({"Kill": [5, "Request"]}))));
    }
    init.send(&frame(&(8, "Ping")));
    assert_eq!(init.receive(), frame(&(8, "Done")));
}

/// A run of the attached program, whose standard output is attached before it.
fn start_run(id: u64) -> Vec<u8> {
    run_with(id, serde_json::json!([{"Program": 1}, "Executable"]), false)
}

fn run_with(id: u64, roles: serde_json::Value, announce: bool) -> Vec<u8> {
    frame(&(id, serde_json::json!({ "StartRun": run_of(roles, announce) })))
}

/// A run beside the run `main`.
fn beside(id: u64, main: u64, roles: serde_json::Value) -> Vec<u8> {
    let request = serde_json::json!({"main": main, "run": run_of(roles, false), "group": null});
    frame(&(id, serde_json::json!({ "StartBeside": request })))
}

fn signal(id: u64, run: u64, number: i32) -> Vec<u8> {
    frame(&(id, serde_json::json!({ "Signal": [run, number] })))
}

fn run_of(roles: serde_json::Value, announce: bool) -> serde_json::Value {
    serde_json::json!({
        "program": "p", "args": "p\0", "env": "", "default_env": {"AllBut": ""}, "work_dir": null, "fds": roles,
        "announce": announce, "rlimits": [],
        "affinity": [], "times": {"wall": null, "cpu": null, "cpus": 1}, "throttled": false, "filter": [],
    })
}

#[test]
fn a_run_has_one_executable_and_one_gate() {
    let _turn = turn();
    let init = Init::configured();
    let (_reader, writer) = pipe();
    for role in ["Executable", "Gate"] {
        init.send_with(&run_with(8, serde_json::json!([role, role]), false), &[writer.as_raw_fd(); 2]);
        assert!(init.receive().windows(7).any(|it| it == b"PlaceFd"), "two of {role}");
    }
    init.send(&frame(&(9, "Ping")));
    assert_eq!(init.receive(), frame(&(9, "Done")));
}

#[test]
fn a_run_is_announced_if_the_host_asks_for_it() {
    let _turn = turn();
    let dir = open_dir();
    let program = dir.path().join("p");
    cc_static("int main(void) { return 0; }", &program);
    let program = File::open(&program).unwrap();
    for announce in [false, true] {
        let init = Init::configured();
        init.send_with(&run_with(5, serde_json::json!(["Executable"]), announce), &[program.as_raw_fd()]);
        if announce {
            assert_eq!(init.receive(), frame(&(5, "Forked")));
        }
        assert!(init.receive().windows(5).any(|it| it == b"Ended"));
    }
}

/// Whether a reply has this word in it.
fn has(reply: &[u8], word: &str) -> bool {
    reply.windows(word.len()).any(|part| part == word.as_bytes())
}

#[test]
fn a_run_beside_another_one_and_a_signal_need_the_run_that_they_name() {
    let _turn = turn();
    let dir = open_dir();
    let program = dir.path().join("p");
    cc_static("#include <unistd.h>\nint main(void) { write(1, \"ready\\n\", 6); pause(); }", &program);
    let executable = File::open(&program).unwrap();
    let roles = serde_json::json!([{"Program": 1}, "Executable"]);
    let init = Init::configured();
    let (mut reader, writer) = pipe();
    let fds = [writer.as_raw_fd(), executable.as_raw_fd()];
    let refused = |request: &[u8], step: &str| {
        init.send_with(request, &fds);
        let reply = init.receive();
        assert!(has(&reply, "Failed") && has(&reply, step), "{}", String::from_utf8_lossy(&reply));
    };
    let mut ready = || reader.read_exact(&mut [0; 6]).unwrap();
    refused(&beside(4, 3, roles.clone()), "FindRun");
    refused(&signal(4, 3, 15), "Signal");

    init.send_with(&start_run(5), &fds);
    ready();
    refused(&beside(6, 4, roles.clone()), "FindRun");
    refused(&signal(6, 4, 15), "Signal");
    for number in [0, -1, 65, i32::MAX] {
        refused(&signal(6, 5, number), "Signal");
    }
    // The control: a run beside the one that is going on, and a signal for each.
    init.send_with(&beside(7, 5, roles.clone()), &fds);
    ready();
    // One beside a run beside another one: that is not the main one.
    refused(&beside(8, 7, roles.clone()), "FindRun");
    init.send(&signal(9, 7, 15));
    assert_eq!(init.receive(), frame(&(9, "Done")));
    assert!(has(&init.receive(), "Ended"), "of the run beside");
    init.send(&signal(10, 5, 15));
    assert_eq!(init.receive(), frame(&(10, "Done")));
    assert!(has(&init.receive(), "Ended"), "of the main run");
    refused(&beside(11, 5, roles), "FindRun");
    drop((writer, fds));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "every descriptor is closed");
}

#[test]
fn the_descriptors_of_a_group_fit_its_files() {
    let _turn = turn();
    let dir = open_dir();
    let program = dir.path().join("p");
    cc_static("#include <unistd.h>\nint main(void) { write(1, \"ready\\n\", 6); pause(); }", &program);
    let executable = File::open(&program).unwrap();
    let init = Init::configured();
    let (mut reader, writer) = pipe();
    let fds = [writer.as_raw_fd(), executable.as_raw_fd()];
    init.send_with(&start_run(5), &fds);
    reader.read_exact(&mut [0; 6]).unwrap();
    let roles = serde_json::json!([{"Program": 1}, "Executable"]);
    let group = serde_json::json!({"version": "V1", "files": ["Directory"]});
    let request = serde_json::json!({"main": 5, "run": run_of(roles, false), "group": group});
    for count in [0, 1, 2, 4] {
        let fds = [writer.as_raw_fd(), executable.as_raw_fd(), executable.as_raw_fd(), executable.as_raw_fd()];
        init.send_with(&frame(&(6, serde_json::json!({ "StartBeside": request }))), &fds[..count]);
        let reply = init.receive();
        assert!(has(&reply, "Failed"), "{count}: {}", String::from_utf8_lossy(&reply));
    }
    init.send(&frame(&(9, "Ping")));
    assert_eq!(init.receive(), frame(&(9, "Done")));
}

#[test]
fn the_init_exits_on_a_run_or_a_reset_while_a_program_runs() {
    let _turn = turn();
    let dir = open_dir();
    let program = dir.path().join("p");
    // Static, because the root file system has no libraries.
    cc_static("#include <unistd.h>\nint main(void) { write(1, \"ready\\n\", 6); pause(); }", &program);
    for request in [start_run(6), frame(&(6, "Reset")), frame(&(6, "Freeze")), start(), configure()] {
        let init = Init::configured();
        let (mut reader, writer) = pipe();
        init.send_with(&start_run(5), &[writer.as_raw_fd(), File::open(&program).unwrap().as_raw_fd()]);
        drop(writer);
        reader.read_exact(&mut [0; 6]).unwrap();
        init.send(&frame(&(7, "Ping")));
        assert_eq!(init.receive(), frame(&(7, "Done")), "the control");
        init.send(&request);
        let (_, said) = init.end();
        assert!(said.contains("out of place (Running)"), "{said}");
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the program is dead");
    }
}

#[test]
fn the_init_does_nothing_when_it_is_not_started_as_an_init() {
    let _turn = turn();
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
