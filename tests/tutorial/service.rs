//! The example `service`, as its clients see it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::turn;
use crate::example;
use crate::processes::{alive, descendants, running, wait};

struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start() -> Self {
        Self::start_as(example("service"))
    }

    /// Starts the service with at most this many descriptors.
    fn start_with_descriptors(descriptors: u64) -> Self {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={descriptors}")).arg(example("service").get_program());
        Self::start_as(limited)
    }

    fn start_as(mut command: Command) -> Self {
        let mut child = command.arg("127.0.0.1:0").stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    /// Requests a run. The answer can be read from the stream once the run is over.
    fn ask(&self, request: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = request.to_string();
        let head = "POST /run HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }
}

/// A failed test leaves no service behind.
impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads an answer: its status and its body.
fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn the_service_runs_programs_refuses_excess_and_shuts_down_gracefully() {
    let _turn = turn();
    let mut service = Service::start();
    let (status, body) = answer(service.ask(&json!({"args": ["tr", "a-z", "A-Z"], "stdin": "hello"})));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["verdict"], &body["stdout"]), (200, &json!("ok"), &json!("HELLO")));
    let (status, body) = answer(service.ask(&json!({"args": ["sh", "-c", "while :; do :; done"]})));
    assert_eq!((status, body.contains(r#""verdict":"cpu_time""#)), (200, true), "{body}");
    assert_eq!(answer(service.ask(&json!({"args": []}))).0, 400);
    assert_eq!(answer(service.ask(&json!({"args": ["no-such-program"]}))).0, 400);

    // More requests than can run and wait: the excess is refused at once, and the others are
    // served.
    let size = std::thread::available_parallelism().unwrap().get();
    let sleep = json!({"args": ["sleep", "1"]});
    let asked: Vec<_> = (0..5 * size).map(|_| service.ask(&sleep)).collect();
    let (served, refused): (Vec<_>, Vec<_>) = asked.into_iter().map(answer).partition(|(status, _)| *status == 200);
    assert!(served.len() >= size && !refused.is_empty(), "{refused:?}");
    assert!(refused.iter().all(|(status, body)| *status == 503 && body.contains("try again")), "{refused:?}");

    let taken: Vec<_> = (0..size).map(|_| service.ask(&sleep)).collect();
    running(service.child.id(), size, "sleep");
    let processes = descendants(service.child.id());
    kill(Pid::from_raw(service.child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(taken.into_iter().all(|stream| answer(stream).0 == 200), "accepted requests are answered");
    assert_eq!(wait(&mut service.child).code(), Some(0));
    assert_eq!(alive(&processes), []);
}

/// Half of a head, and a whole head with half of a body.
const HALVES: [&str; 2] = [
    "POST /run HTTP/1.1\r\nHost: x\r\n",
    "POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
];

#[test]
fn half_a_request_neither_lasts_nor_keeps_the_service_alive() {
    let _turn = turn();
    let mut service = Service::start();
    let half = |text: &str| {
        let mut stream = TcpStream::connect(&service.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    for text in HALVES {
        // The control: the service waits for the rest at first, and serves others meanwhile.
        let mut stream = half(text);
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "{text:?} was refused at once");
        assert_eq!(answer(service.ask(&json!({"args": ["true"]}))).0, 200);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said:?}");
    }

    let _halves = HALVES.map(half);
    assert_eq!(answer(service.ask(&json!({"args": ["true"]}))).0, 200, "the halves were accepted before");
    let processes = descendants(service.child.id());
    let start = Instant::now();
    kill(Pid::from_raw(service.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(wait(&mut service.child).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(alive(&processes), []);
}

#[test]
fn idle_connections_beyond_the_descriptors_leave_others_answered() {
    let _turn = turn();
    let service = Service::start_with_descriptors(128);
    let connect = || TcpStream::connect(&service.address).unwrap();
    let mut idle: Vec<_> = (0..160).map(|_| connect()).collect();
    // The control: connections below the limit last until their deadline.
    idle[0].set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(idle[0].read(&mut [0]).is_err());
    let start = Instant::now();
    assert_eq!(answer(service.ask(&json!({"args": ["echo", "hello"]}))).0, 200);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}
