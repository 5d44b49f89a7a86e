//! Containers for any language: one JSON request a line on standard input, one JSON answer a line on standard output.
//!
//! ```text
//! {"id":1,"op":"run","args":["/bin/echo","hi"]}
//! {"id":1,"ok":{"status":{"exited":0},"stderr":"","stderr_truncated":false,"stdout":"hi\n",…,"usage":{…}}}
//! ```
//!
//! | `op`      | fields                                                         | answer                                   |
//! |-----------|----------------------------------------------------------------|------------------------------------------|
//! | `build`   | `binds` (`["SRC[:DST[:rw]]"]`), `tmpfs_bytes` (of each tmpfs)   | `{}`                                     |
//! | `run`     | `args`, `env` (`["K=V"]`), `stdin`, `capture_bytes`, `limits`  | verdict, report and outputs              |
//! | `kill`    | `run` (the id of a run)                                        | `{}`; the run's own answer tells its end |
//! | `reset`   |                                                                | `{}`                                     |
//! | `write`   | `path`, `data` or `data_base64`, `mode` (420)                  | `{}`                                     |
//! | `read`    | `path`, `limit_bytes` (1 MiB)                                  | `{"data":…}` or `{"data_base64":…}`      |
//! | `symlink` | `target`, `path`                                               | `{}`                                     |
//! | `delete`  | `path`                                                         | `{}`                                     |
//! | `ping`    |                                                                | `{}`                                     |
//! | `destroy` |                                                                | `{}`                                     |
//!
//! Requests start as they are read and are answered as they finish: an `id`, any JSON value, tells which answer is whose.
//! Runs and resets of one container wait for each other in the order of their lines; everything else is served at once,
//! so wait for the answer where something else relies on it.
//!
//! Each request may name a `container`, `main` if it does not. It is built when a request first needs it, and again after
//! a `destroy` or a build that failed; one that has died stays dead until it is destroyed. A `kill` finds runs of every
//! container unless it names one; it kills all that have the id, and those that still wait for their turn are answered
//! with an error of kind `killed`.
//!
//! A failure is `{"id":1,"error":{"kind":"…","step":"…","errno":2,"message":"…","retryable":false}}`, with null for what is
//! not known. A line that is not a request has a failure with a null id. What is not UTF-8, be it because it was cut in
//! the middle of a character, comes in base64 under a name that says so.
//!
//! At the end of input the console kills what runs, answers what is open, destroys everything and exits 0.

mod answer;
mod cell;
mod request;
mod run;
mod state;

use std::future::ready;
use std::io;
use std::process::ExitCode;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdin};
use tokio::sync::mpsc;

use answer::Failure;
use request::Request;
use state::Console;

const LONGEST_LINE: u64 = 64 << 20;

pub fn main() -> ExitCode {
    match console() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cellblock console: {error}");
            ExitCode::FAILURE
        }
    }
}

fn console() -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let end = runtime.block_on(serve());
    // A thread may still wait for input that nobody wants any more.
    runtime.shutdown_background();
    end
}

async fn serve() -> io::Result<()> {
    let (answers, to_write) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_lines(to_write));
    let mut input = BufReader::new(tokio::io::stdin());
    let mut console = Console::new(answers.clone());
    let end = loop {
        tokio::select! {
            request = next_request(&mut input) => match request {
                Ok(Some(Ok(request))) => console.start(request),
                Ok(Some(Err(not_understood))) => console.answer(Value::Null, ready(Err(not_understood))),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            // Nobody reads the answers.
            () = answers.closed() => break Ok(()),
        }
    };
    console.end().await;
    drop(answers);
    writer.await??;
    end
}

/// Writes the answers, one task for all of them, so that no line begins within another.
async fn write_lines(mut answers: mpsc::UnboundedReceiver<Value>) -> io::Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(answer) = answers.recv().await {
        stdout.write_all(format!("{answer}\n").as_bytes()).await?;
        stdout.flush().await?;
    }
    Ok(())
}

/// The next line as a request, or `None` at the end of input.
async fn next_request(input: &mut BufReader<Stdin>) -> io::Result<Option<Result<Request, Failure>>> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        line.clear();
        (&mut *input).take(LONGEST_LINE + 1).read_until(b'\n', &mut line).await?;
        if line.len() as u64 <= LONGEST_LINE || line.ends_with(b"\n") {
            break;
        }
        is_too_long = true;
    }
    if is_too_long {
        return Ok(Some(Err(Failure::invalid(format!("a line has more than {LONGEST_LINE} bytes")))));
    }
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line).map_err(|error| Failure::invalid(format!("not understood: {error}")))))
}
