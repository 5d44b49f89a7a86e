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

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cellblock::{Builder, Command, Container, ErrorKind, Limits, Mount, OutputPipe, Process, Stdio, Step, Tmpfs};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all, ready};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdin};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

const LONGEST_LINE: u64 = 64 << 20;
const PING_DEADLINE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    cellblock::init(); // in a container's init this never returns
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

#[derive(Deserialize)]
struct Request {
    id: Value,
    container: Option<String>,
    #[serde(flatten)]
    op: Op,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Op {
    Build {
        #[serde(default)]
        binds: Vec<String>,
        tmpfs_bytes: Option<u64>,
    },
    Run(Run),
    Kill {
        run: Value,
    },
    Reset {},
    Write {
        path: PathBuf,
        data: Option<String>,
        data_base64: Option<String>,
        mode: Option<u32>,
    },
    Read {
        path: PathBuf,
        limit_bytes: Option<u64>,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
    },
    Delete {
        path: PathBuf,
    },
    Ping {},
    Destroy {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    args: Vec<String>,
    #[serde(default = "default_env")]
    env: Vec<String>,
    #[serde(default)]
    stdin: String,
    capture_bytes: Option<u64>,
    /// [`Limits`], looked at later: so that a mistake there is answered under this request's id.
    #[serde(default)]
    limits: Map<String, Value>,
}

fn default_env() -> Vec<String> {
    vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()]
}

#[derive(Serialize)]
struct Failure {
    kind: Kind,
    step: Option<Step>,
    errno: Option<i32>,
    message: String,
    retryable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Killed,
    #[serde(untagged)]
    Library(ErrorKind),
}

impl Failure {
    fn new(kind: Kind, message: impl ToString) -> Self {
        Self { kind, step: None, errno: None, message: message.to_string(), retryable: false }
    }

    fn invalid(message: impl ToString) -> Self {
        Self::new(Kind::Library(ErrorKind::InvalidInput), message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let (kind, errno) = (Kind::Library(ErrorKind::Host), error.raw_os_error());
        Self { step: Some(Step::Read), errno, ..Self::new(kind, error.to_string()) }
    }
}

impl From<cellblock::Error> for Failure {
    fn from(error: cellblock::Error) -> Self {
        Self {
            kind: Kind::Library(error.kind()),
            step: error.step(),
            errno: error.raw_os_error(),
            message: error.to_string(),
            retryable: error.is_retryable(),
        }
    }
}

/// A request on its way to its answer.
type Work = BoxFuture<'static, Result<Value, Failure>>;

/// The state between lines. Only the task that reads them has it, so what is decided here is decided in their order.
struct Console {
    cells: HashMap<String, Cell>,
    runs: Vec<OpenRun>,
    tasks: TaskTracker,
    answers: mpsc::UnboundedSender<Value>,
}

/// A run without an answer yet.
struct OpenRun {
    id: Value,
    container: String,
    /// Dropping it is the message to kill. Closed once the run is over.
    kill: oneshot::Sender<()>,
}

impl Console {
    fn new(answers: mpsc::UnboundedSender<Value>) -> Self {
        Self { cells: HashMap::new(), runs: Vec::new(), tasks: TaskTracker::new(), answers }
    }

    fn start(&mut self, Request { id, container, op }: Request) {
        let work = self.begin(&id, container, op).unwrap_or_else(|failure| ready(Err(failure)).boxed());
        self.answer(id, work);
    }

    fn answer(&self, id: Value, work: impl Future<Output = Result<Value, Failure>> + Send + 'static) {
        let answers = self.answers.clone();
        self.tasks.spawn(async move {
            let answer = match work.await {
                Ok(ok) => json!({ "id": id, "ok": ok }),
                Err(error) => json!({ "id": id, "error": error }),
            };
            // Where nobody reads the answers the console is about to end.
            let _ = answers.send(answer);
        });
    }

    /// Does what must be done in the order of the lines, and leaves the rest to a future.
    fn begin(&mut self, id: &Value, container: Option<String>, op: Op) -> Result<Work, Failure> {
        let name = container.as_deref().unwrap_or("main");
        Ok(match op {
            Op::Build { binds, tmpfs_bytes } => self.build(name, &binds, tmpfs_bytes)?,
            Op::Run(run) => self.run(id, name, &run)?,
            Op::Kill { run } => ready(self.kill(&run, container.as_deref())).boxed(),
            Op::Reset {} => {
                let turn = self.cell(name).turns.next();
                self.on(name, |container| async move {
                    let _turn = turn.await;
                    container.reset().await
                })
            }
            Op::Write { path, data, data_base64, mode } => {
                let data = content(data, data_base64)?;
                self.on(name, move |it| async move { it.write(path, data, mode.unwrap_or(0o644)).await })
            }
            Op::Read { path, limit_bytes } => {
                let container = self.cell(name).container.clone();
                let read = async move { container.await?.read(path, limit_bytes.unwrap_or(1 << 20)).await };
                read.map(|data| Ok(with_text(json!({}), "data", data?))).boxed()
            }
            Op::Symlink { target, path } => {
                self.on(name, |it| async move { it.symlink([(target, path)]).await?.into_iter().collect() })
            }
            Op::Delete { path } => self.on(name, |it| async move { it.delete(path).await }),
            Op::Ping {} => self.on(name, |it| async move { it.ping(PING_DEADLINE).await }),
            Op::Destroy {} => match self.cells.remove(name) {
                Some(cell) => cell.destroy().map(|()| Ok(json!({}))).boxed(),
                None => ready(Ok(json!({}))).boxed(),
            },
        })
    }

    /// What is done with a container as soon as it is there.
    fn on<F>(&mut self, name: &str, work: impl FnOnce(Container) -> F + Send + 'static) -> Work
    where
        F: Future<Output = cellblock::Result<()>> + Send + 'static,
    {
        let container = self.cell(name).container.clone();
        let done = async { work(container.await?).await };
        done.map(|done| Ok(done.map(|()| json!({}))?)).boxed()
    }

    /// The container of this name, which is being built from now on if there was none.
    fn cell(&mut self, name: &str) -> &Cell {
        self.cells.retain(|it, cell| it != name || !cell.has_failed());
        self.cells.entry(name.to_owned()).or_insert_with(|| Cell::new(Container::builder()))
    }

    fn build(&mut self, name: &str, binds: &[String], tmpfs_bytes: Option<u64>) -> Result<Work, Failure> {
        if self.cells.get(name).is_some_and(|cell| !cell.has_failed()) {
            return Err(Failure::invalid(format!("there is a container {name:?} already: destroy it first")));
        }
        if tmpfs_bytes == Some(0) {
            return Err(Failure::invalid("tmpfs_bytes is a size; 0 would be no limit at all"));
        }
        let tmpfs = tmpfs_bytes.map_or_else(Tmpfs::new, |bytes| Tmpfs::new().bytes(bytes));
        let mut builder = Container::builder().mounts(Mount::defaults(tmpfs));
        for argument in binds {
            builder = builder.mount(argument.parse()?);
        }
        self.cells.insert(name.to_owned(), Cell::new(builder));
        Ok(self.on(name, |_| ready(Ok(()))))
    }

    fn run(&mut self, id: &Value, name: &str, run: &Run) -> Result<Work, Failure> {
        let command = command(run)?;
        let (kill, killed) = oneshot::channel();
        self.runs.retain(|run| !run.kill.is_closed());
        self.runs.push(OpenRun { id: id.clone(), container: name.to_owned(), kill });
        let cell = self.cell(name);
        let (container, turn) = (cell.container.clone(), cell.turns.next());
        let keep = run.capture_bytes.unwrap_or(64 << 10);
        let started = async move {
            let turn = turn.await;
            let process = container.await?.spawn(&command).await?;
            Ok((process, turn))
        };
        Ok(follow(started, keep, killed).boxed())
    }

    fn kill(&mut self, id: &Value, container: Option<&str>) -> Result<Value, Failure> {
        self.runs.retain(|run| !run.kill.is_closed());
        match self.kill_where(|run| run.id == *id && container.is_none_or(|name| name == run.container)) {
            0 => Err(Failure::invalid(format!("no run with the id {id} is open"))),
            _ => Ok(json!({})),
        }
    }

    fn kill_where(&mut self, is_meant: impl FnMut(&OpenRun) -> bool) -> usize {
        let (killed, open): (Vec<_>, _) = std::mem::take(&mut self.runs).into_iter().partition(is_meant);
        self.runs = open;
        // The last one first, or it might get the turn of one before it.
        killed.into_iter().rev().map(drop).count()
    }

    async fn end(mut self) {
        self.kill_where(|_| true);
        self.tasks.close();
        self.tasks.wait().await;
        join_all(self.cells.into_values().map(Cell::destroy)).await;
    }
}

/// A container, or one that is being built, or why there is none.
struct Cell {
    container: Shared<BoxFuture<'static, cellblock::Result<Container>>>,
    turns: Turns,
}

impl Cell {
    fn new(builder: Builder) -> Self {
        let container = async move { builder.build().await }.boxed().shared();
        Self { container, turns: Turns::new() }
    }

    fn has_failed(&self) -> bool {
        matches!(self.container.peek(), Some(Err(_)))
    }

    async fn destroy(self) {
        if let Ok(container) = self.container.await {
            container.destroy().await;
        }
    }
}

/// Gives turns in the order in which they were asked for. A container orders what has reached it, but tasks reach it in
/// whatever order they are polled in.
struct Turns(mpsc::UnboundedSender<oneshot::Sender<Turn>>);

/// Dropping it gives the turn to the next.
type Turn = oneshot::Sender<()>;

impl Turns {
    fn new() -> Self {
        let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<Turn>>();
        tokio::spawn(async move {
            while let Some(asker) = asked.recv().await {
                let (turn, over) = oneshot::channel();
                // Who was killed while it waited is gone.
                if asker.send(turn).is_ok() {
                    let _ = over.await;
                }
            }
        });
        Self(ask)
    }

    fn next(&self) -> oneshot::Receiver<Turn> {
        let (asker, turn) = oneshot::channel();
        let _ = self.0.send(asker);
        turn
    }
}

fn command(run: &Run) -> Result<Command, Failure> {
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
async fn follow(
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

/// Adds bytes to an object: as text or, where they are not UTF-8, in base64 under a name that says so.
fn with_text(mut object: Value, name: &str, bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => object[name] = text.into(),
        Err(error) => object[format!("{name}_base64")] = BASE64_STANDARD.encode(error.as_bytes()).into(),
    }
    object
}

fn content(data: Option<String>, data_base64: Option<String>) -> Result<Vec<u8>, Failure> {
    match (data, data_base64) {
        (Some(data), None) => Ok(data.into()),
        (None, Some(data)) => {
            BASE64_STANDARD.decode(data).map_err(|error| Failure::invalid(format!("data_base64: {error}")))
        }
        _ => Err(Failure::invalid("give either data or data_base64")),
    }
}
