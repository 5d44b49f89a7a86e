//! A run, from its request to its response.

use std::io;

use cellblock::process::OutputPipe;
use cellblock::{Command, Limits, Process, Report, Stdio};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::request::RunRequest;
use super::response::{Failure, Kind, with_bytes};
use super::slot::Turn;
use crate::environment::Variable;

/// The command of a run. Without variables of its own it has `default_env`.
pub fn command(run: &RunRequest, default_env: &[Variable]) -> Result<Command, Failure> {
    let mut command = program("args", &run.args)?;
    let limits: Limits = serde_json::from_value(run.limits.clone().into())
        .map_err(|error| Failure::invalid(format!("limits: {error}")))?;
    command.limits(limits);
    command.stdin(Stdio::bytes(run.stdin.as_str())).stdout(Stdio::piped()).stderr(Stdio::piped());
    let own = run.env.iter().flatten().map(|variable| variable.parse().map_err(Failure::invalid));
    let own = own.collect::<Result<Vec<Variable>, _>>()?;
    for Variable { key, value } in if run.env.is_some() { own.as_slice() } else { default_env } {
        command.env(key, value);
    }
    Ok(command)
}

/// A program and its arguments, out of the field with this name.
pub fn program(field: &str, words: &[String]) -> Result<Command, Failure> {
    let [program, args @ ..] = words else {
        return Err(Failure::invalid(format!("{field} must begin with a program")));
    };
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

/// Waits for the start of a run and for its end. Kills it when `kill` yields. A run that takes a
/// turn keeps it until then.
///
/// `capture_bytes` is how much of each output the response has.
pub async fn respond(
    start: impl Future<Output = cellblock::Result<(Process, Option<Turn>)>>,
    capture_bytes: u64,
    mut kill: oneshot::Receiver<()>,
) -> Result<Value, Failure> {
    let (mut process, _turn) = tokio::select! {
        biased;
        _ = &mut kill => return Err(Failure::new(Kind::Killed, "killed before it had started")),
        started = start => started?,
    };
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let (ended, stdout, stderr) = tokio::join!(
        wait_or_kill(&mut process, kill),
        Captured::read(stdout, capture_bytes),
        Captured::read(stderr, capture_bytes)
    );
    ended?;
    let (stdout, stderr) = (stdout?, stderr?);
    // A program may end before its outputs are read. Only now is it known whether they exceeded
    // their limit, so ask for the report again.
    let report = process.wait().await?;
    let mut response = json!({
        "verdict": report.verdict(),
        "stdout_truncated": stdout.is_truncated,
        "stderr_truncated": stderr.is_truncated,
    });
    if let (Value::Object(response), Value::Object(report)) = (&mut response, json!(report)) {
        response.extend(report);
    }
    Ok(with_bytes(with_bytes(response, "stdout", stdout.bytes), "stderr", stderr.bytes))
}

async fn wait_or_kill(process: &mut Process, kill: oneshot::Receiver<()>) -> cellblock::Result<Report> {
    tokio::select! {
        report = process.wait() => return report,
        _ = kill => {}
    }
    process.kill().await
}

/// The first bytes of an output.
#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    is_truncated: bool,
}

impl Captured {
    /// Reads an output to its end, so that the program never blocks on a full pipe. Keeps only the
    /// first bytes.
    async fn read(stream: Option<OutputPipe>, limit: u64) -> io::Result<Self> {
        let Some(mut stream) = stream else { return Ok(Self::default()) };
        let mut bytes = Vec::new();
        (&mut stream).take(limit).read_to_end(&mut bytes).await?;
        let dropped = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        Ok(Self { bytes, is_truncated: dropped > 0 || stream.is_cut() })
    }
}
