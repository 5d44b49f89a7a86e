//! `cellblock console`: JSON requests, and a response to each.

mod builds;
mod ends;
mod files;
mod lines;
mod runs;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::processes::{DEADLINE, Process, running, wait};
use crate::support::{cellblock, keys};

/// A console, and the responses that no test has taken yet.
struct Console {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    responses: Vec<Value>,
}

impl Console {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(args: &[&str]) -> Self {
        let mut child = cellblock("console").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self { stdin: child.stdin.take(), child, lines, responses: Vec::new() }
    }

    fn send(&mut self, request: &Value) {
        self.send_line(request.to_string().as_bytes());
    }

    fn send_line(&mut self, line: &[u8]) {
        self.stdin.as_ref().unwrap().write_all(&[line, b"\n"].concat()).unwrap();
    }

    /// Waits for the response to the request with this id.
    fn response(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        loop {
            if let Some(at) = self.responses.iter().position(|response| response["id"] == id) {
                return self.responses.remove(at);
            }
            let response = self.lines.recv_timeout(DEADLINE).unwrap();
            let fields = keys(&response);
            assert!(fields == ["id", "ok"].into() || fields == ["id", "error"].into(), "{response}");
            self.responses.push(response);
        }
    }

    fn ok_of(&mut self, id: impl Into<Value>) -> Value {
        let response = self.response(id);
        assert!(response["error"].is_null(), "{response}");
        response["ok"].clone()
    }

    fn error_of(&mut self, id: impl Into<Value>) -> Value {
        let response = self.response(id);
        let error = &response["error"];
        assert_eq!(keys(error), ["kind", "step", "errno", "message", "retryable"].into(), "{response}");
        assert!(error["message"].is_string() && error["retryable"].is_boolean(), "{response}");
        error.clone()
    }

    /// Sends a request that must succeed. Returns its result.
    fn ok(&mut self, request: Value) -> Value {
        self.send(&request);
        self.ok_of(request["id"].clone())
    }

    /// Sends a request that must fail with these fields.
    fn fails(&mut self, request: Value, kind: &str, step: Option<&str>, errno: Option<i32>) {
        self.send(&request);
        let error = self.error_of(request["id"].clone());
        assert_eq!(
            (&error["kind"], &error["step"], &error["errno"]),
            (&json!(kind), &json!(step), &json!(errno)),
            "{request}: {error}"
        );
    }

    /// Runs a script that must succeed. Returns its output.
    fn stdout_of(&mut self, script: &str) -> String {
        let ok = self.ok(sh("says", script));
        assert_eq!((&ok["status"], &ok["stderr"]), (&json!({"exited": 0}), &json!("")), "{script}: {ok}");
        ok["stdout"].as_str().unwrap().to_owned()
    }

    /// Waits until `count` programs called `sleep` run.
    fn sleeping(&self, count: usize) -> BTreeSet<Process> {
        running(self.child.id(), count, "sleep")
    }

    /// Closes the input. The console must exit with 0. Its responses can still be taken.
    fn end(&mut self) {
        drop(self.stdin.take());
        assert_eq!(wait(&mut self.child).code(), Some(0));
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sh(id: impl Into<Value>, script: &str) -> Value {
    json!({"id": id.into(), "op": "run", "args": ["/bin/sh", "-c", script]})
}

fn sleep(id: impl Into<Value>) -> Value {
    json!({"id": id.into(), "op": "run", "args": ["sleep", "4000"]})
}

fn killed() -> Value {
    json!({"signaled": {"signal": 9, "core_dumped": false}})
}

/// A request with more fields.
fn with(mut request: Value, fields: Value) -> Value {
    let fields = fields.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(fields);
    request
}
