//! `cellblock console`: containers for any language, one JSON request a line, one JSON response a
//! line.
//!
//! Invariant: every line has exactly one response, and no response begins within another.

mod request;
mod response;
mod run;
mod slot;
mod state;

use std::error::Error;
use std::future::ready;
use std::io;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdin};
use tokio::sync::mpsc;

use crate::image::ImageOptions;
use crate::runtime::block_on;
use request::Request;
use response::Failure;
use state::Console;

/// Serve JSON requests on standard input, for programs in any language
///
/// Reads one JSON request a line from standard input and writes one JSON response a line to
/// standard output.
#[derive(Args)]
#[command(after_long_help = PROTOCOL, after_help = "`cellblock help console` describes the requests.")]
pub struct Options {
    /// At the end of input, kill what still runs instead of waiting for it
    #[arg(long)]
    kill_at_eof: bool,
    #[command(flatten)]
    image: ImageOptions,
}

const PROTOCOL: &str = r#"Example:
  $ echo '{"id":1,"op":"run","args":["/bin/echo","hi"]}' | cellblock console
  {"id":1,"ok":{"stdout":"hi\n","status":{"exited":0},"verdict":"ok",…}}

Requests:
  op       fields                             response
  build    binds (["SRC[:DST[:rw]]"]),        {}
           tmpfs_bytes (of each tmpfs),
           image (IMAGE, as for --image),
           setup (["PROGRAM","ARG",…])
  run      args, env (["K=V"]), stdin,        verdict, report, outputs
           capture_bytes, limits,
           beside (false)
  kill     run (the id of a run)              {}; the run has its own response
  reset                                       {}
  write    path, data or data_base64,         {}
           mode (420)
  read     path, limit_bytes (1 MiB)          {"data":…} or {"data_base64":…}
  symlink  target, path                       {}
  delete   path                               {}
  ping                                        {}
  destroy                                     {}

Every request has an id, any JSON value, which its response repeats. Requests
start in the order of their lines and are answered as they finish. Runs and
resets of one container wait for each other in that order. Everything else is
served at once, so a request that relies on another must wait for its response.

A run with "beside":true starts at once, beside the run that goes on in that
container. It has limits, a report and a response of its own, and is killed when
that run ends: its cause is then "main_ended". If no run goes on, it fails with
the kind "not_running".

Containers:
  A request may name its `container`; the default is "main". A container is
  built when a request first needs it, and again after a `destroy` or a failed
  build. A container that has died stays dead until it is destroyed. A `kill`
  looks in every container unless it names one. It kills all runs with the id. A
  run that is killed while it waits fails with the kind `killed`.

  With `image`, or the option --image, the "/" of a container is that image or
  directory in place of the host's /usr. A build runs `setup`, and a reset keeps
  what that leaves.

Failures:
  {"id":1,"error":{"kind":"…","step":"…","errno":2,"message":"…",
                   "retryable":false}}
  A value that is not known is null. A line that is not a request has a failure
  with the id null.

Bytes that are not UTF-8, or that end within a character, are in base64 under a
name that says so: `stdout_base64`.

At the end of input the console waits until every request has its response. With
--kill-at-eof it kills what runs instead. Then it destroys everything and exits
with 0. If its output is closed it kills what runs and exits with 1."#;

/// The longest line in bytes.
const MAX_LINE: u64 = 64 << 20;

pub fn main(Options { kill_at_eof, image }: Options) -> ExitCode {
    match block_on(serve(kill_at_eof, &image)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cellblock console: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(kill_at_eof: bool, image: &ImageOptions) -> Result<(), Box<dyn Error>> {
    let roots = image.open().await?;
    let (responses, to_write) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_lines(to_write));
    let mut input = BufReader::new(tokio::io::stdin());
    let mut console = Console::new(responses.clone(), roots);
    let end = loop {
        tokio::select! {
            request = next_request(&mut input) => match request {
                Ok(Some(Ok(request))) => console.start(request),
                Ok(Some(Err(invalid))) => console.respond(Value::Null, ready(Err(invalid))),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            // The writer has failed: the reader of the responses has closed its end.
            () = responses.closed() => break Ok(()),
        }
    };
    if end.is_ok() && !kill_at_eof {
        tokio::select! {
            () = console.drain() => {}
            () = responses.closed() => {}
        }
    }
    console.end().await;
    drop(responses);
    writer.await??;
    Ok(end?)
}

/// Writes the responses. One task writes all of them, so lines do not mix.
async fn write_lines(mut responses: mpsc::UnboundedReceiver<Value>) -> io::Result<()> {
    let mut stdout = tokio::io::stdout();
    while let Some(response) = responses.recv().await {
        stdout.write_all(format!("{response}\n").as_bytes()).await?;
        stdout.flush().await?;
    }
    Ok(())
}

/// Reads the next line as a request. Returns `None` at the end of input.
async fn next_request(input: &mut BufReader<Stdin>) -> io::Result<Option<Result<Request, Failure>>> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        line.clear();
        (&mut *input).take(MAX_LINE + 1).read_until(b'\n', &mut line).await?;
        if line.len() as u64 <= MAX_LINE || line.ends_with(b"\n") {
            break;
        }
        is_too_long = true;
    }
    if is_too_long {
        return Ok(Some(Err(Failure::invalid(format!("a line has more than {MAX_LINE} bytes")))));
    }
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line).map_err(|error| Failure::invalid(format!("not a request: {error}")))))
}
