//! The state between lines. Only the task that reads them has it, so what is decided here is decided in their order.

use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;

use cellblock::{Container, Mount, mount::Tmpfs};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::answer::{Failure, content, with_text};
use super::cell::Cell;
use super::request::{Op, Request, Run};
use super::run::{command, follow};

const PING_DEADLINE: Duration = Duration::from_secs(10);

/// A request on its way to its answer.
type Work = BoxFuture<'static, Result<Value, Failure>>;

pub(crate) struct Console {
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
    pub(crate) fn new(answers: mpsc::UnboundedSender<Value>) -> Self {
        Self { cells: HashMap::new(), runs: Vec::new(), tasks: TaskTracker::new(), answers }
    }

    pub(crate) fn start(&mut self, Request { id, container, op }: Request) {
        let work = self.begin(&id, container, op).unwrap_or_else(|failure| ready(Err(failure)).boxed());
        self.answer(id, work);
    }

    pub(crate) fn answer(&self, id: Value, work: impl Future<Output = Result<Value, Failure>> + Send + 'static) {
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

    pub(crate) async fn end(mut self) {
        self.kill_where(|_| true);
        self.tasks.close();
        self.tasks.wait().await;
        join_all(self.cells.into_values().map(Cell::destroy)).await;
    }
}
