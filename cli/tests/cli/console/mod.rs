//! `console`: JSON requests, and an answer for each.

mod ends;
mod files;
mod lines;
mod runs;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::support::keys;
use crate::support::{DEADLINE, Process, cellblock, running, wait};

/// A console, and what it has answered that nobody has asked for yet.
struct Console {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    answers: Vec<Value>,
}

impl Console {
    fn start() -> Self {
        let mut child = cellblock("console").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self { stdin: child.stdin.take(), child, lines, answers: Vec::new() }
    }

    fn send(&mut self, request: &Value) {
        self.send_line(request.to_string().as_bytes());
    }

    fn send_line(&mut self, line: &[u8]) {
        self.stdin.as_ref().unwrap().write_all(&[line, b"\n"].concat()).unwrap();
    }

    /// The answer to the request with this id.
    fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        loop {
            if let Some(at) = self.answers.iter().position(|answer| answer["id"] == id) {
                return self.answers.remove(at);
            }
            let answer = self.lines.recv_timeout(DEADLINE).unwrap();
            let fields = keys(&answer);
            assert!(fields == ["id", "ok"].into() || fields == ["id", "error"].into(), "{answer}");
            self.answers.push(answer);
        }
    }

    fn ok_of(&mut self, id: impl Into<Value>) -> Value {
        let answer = self.answer(id);
        assert!(answer["error"].is_null(), "{answer}");
        answer["ok"].clone()
    }

    fn error_of(&mut self, id: impl Into<Value>) -> Value {
        let answer = self.answer(id);
        let error = &answer["error"];
        assert_eq!(keys(error), ["kind", "step", "errno", "message", "retryable"].into(), "{answer}");
        assert!(error["message"].is_string() && error["retryable"].is_boolean(), "{answer}");
        error.clone()
    }

    /// Sends a request, and gives what its success says.
    fn ok(&mut self, request: Value) -> Value {
        self.send(&request);
        self.ok_of(request["id"].clone())
    }

    /// Sends a request that must fail like this.
    fn fails(&mut self, request: Value, kind: &str, step: Option<&str>, errno: Option<i32>) {
        self.send(&request);
        let error = self.error_of(request["id"].clone());
        assert_eq!(
            (&error["kind"], &error["step"], &error["errno"]),
            (&json!(kind), &json!(step), &json!(errno)),
            "{request}: {error}"
        );
    }

    /// What a script prints, which must succeed.
    fn says(&mut self, script: &str) -> String {
        let ok = self.ok(sh("says", script));
        assert_eq!((&ok["status"], &ok["stderr"]), (&json!({"exited": 0}), &json!("")), "{script}: {ok}");
        ok["stdout"].as_str().unwrap().to_owned()
    }

    /// Waits until this many programs called `sleep` run.
    fn sleeping(&self, count: usize) -> BTreeSet<Process> {
        running(self.child.id(), count, "sleep")
    }

    /// Ends the input. The console must exit 0; what it has answered can still be looked at.
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
