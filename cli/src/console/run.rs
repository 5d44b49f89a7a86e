//! A run, from its request to its answer.

use std::io;

use cellblock::{Command, Limits, Process, Stdio, process::OutputPipe};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use super::answer::{Failure, Kind, with_text};
use super::cell::Turn;
use super::request::Run;

pub(crate) fn command(run: &Run) -> Result<Command, Failure> {
    let [program, args @ ..] = run.args.as_slice() else {
        return Err(Failure::invalid("args must begin with a program"));
    };
    let limits: Limits = serde_json::from_value(run.limits.clone().into())
        .map_err(|error| Failure::invalid(format!("limits: {error}")))?;
    let mut command = Command::new(program);
    command.args(args).limits(limits);
    command.stdin(Stdio::bytes(run.stdin.as_str())).stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in &run.env {
        let (key, value) = variable
            .split_once('=')
            .ok_or_else(|| Failure::invalid(format!("a variable is K=V, and not {variable:?}")))?;
        command.env(key, value);
    }
    Ok(command)
}

/// Follows a run from its turn to its end, or to the message to kill it.
pub(crate) async fn follow(
    started: impl Future<Output = cellblock::Result<(Process, Result<Turn, RecvError>)>>,
    keep: u64,
    mut killed: oneshot::Receiver<()>,
) -> Result<Value, Failure> {
    let (mut process, _turn) = tokio::select! {
        biased;
        _ = &mut killed => return Err(Failure::new(Kind::Killed, "killed before it had started")),
        started = started => started?,
    };
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let report = async {
        tokio::select! {
            report = process.wait() => return report,
            _ = killed => {}
        }
        process.kill().await
    };
    let (report, stdout, stderr) = tokio::join!(report, capture(stdout, keep), capture(stderr, keep));
    let (report, (stdout, stdout_truncated), (stderr, stderr_truncated)) = (report?, stdout?, stderr?);
    let mut answer = json!({
        "verdict": report.verdict(),
        "stdout_truncated": stdout_truncated,
        "stderr_truncated": stderr_truncated,
    });
    if let (Value::Object(answer), Value::Object(report)) = (&mut answer, json!(report)) {
        answer.extend(report);
    }
    Ok(with_text(with_text(answer, "stdout", stdout), "stderr", stderr))
}

/// Reads to the end, so that the program never waits for it, and keeps the beginning. Tells whether there was more.
async fn capture(stream: Option<OutputPipe>, keep: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return Ok((kept, false)) };
    (&mut stream).take(keep).read_to_end(&mut kept).await?;
    let dropped = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok((kept, dropped > 0 || stream.is_cut()))
}
