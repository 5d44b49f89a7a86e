//! The containers and the open runs of a console.
//!
//! Invariant: only the task that reads the lines has this state, so decisions are made in the order
//! of the lines.

use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;

use cellblock::mount::Tmpfs;
use cellblock::{Container, ContainerBuilder, Mount, Root};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::request::{BuildRequest, Op, Request, RunRequest};
use super::response::{Failure, decode_bytes, with_bytes};
use super::run;
use super::slot::Slot;
use crate::environment::Variable;
use crate::image::Roots;

/// How long a container may take to answer a ping.
const PING_DEADLINE: Duration = Duration::from_secs(10);
/// How much of each output a response has, unless the request says otherwise.
const CAPTURE_BYTES: u64 = 64 << 10;
/// How much of a file a response has at most, unless the request says otherwise.
const READ_BYTES: u64 = 1 << 20;

/// The rest of a request, after what is done in the order of the lines.
type Work = BoxFuture<'static, Result<Value, Failure>>;

pub struct Console {
    roots: Roots,
    slots: HashMap<String, Slot>,
    runs: Vec<OpenRun>,
    tasks: TaskTracker,
    responses: mpsc::UnboundedSender<Value>,
}

/// A run without a response yet.
struct OpenRun {
    id: Value,
    container: String,
    /// Dropping it kills the run. It is closed when the run is over.
    kill: oneshot::Sender<()>,
}

impl Console {
    pub fn new(responses: mpsc::UnboundedSender<Value>, roots: Roots) -> Self {
        Self { roots, slots: HashMap::new(), runs: Vec::new(), tasks: TaskTracker::new(), responses }
    }

    /// Starts a request. Its response is sent when it has finished.
    pub fn start(&mut self, Request { id, container, op }: Request) {
        let work = self.begin(&id, container, op).unwrap_or_else(|failure| ready(Err(failure)).boxed());
        self.respond(id, work);
    }

    /// Sends the response to the request with this id when `work` has finished.
    pub fn respond(&self, id: Value, work: impl Future<Output = Result<Value, Failure>> + Send + 'static) {
        let responses = self.responses.clone();
        self.tasks.spawn(async move {
            let response = match work.await {
                Ok(ok) => json!({ "id": id, "ok": ok }),
                Err(error) => json!({ "id": id, "error": error }),
            };
            // If this fails the output is closed, and the console is about to end.
            let _ = responses.send(response);
        });
    }

    /// Waits until every request has its response. No request can start after this.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Kills what runs, waits until every request has its response, and destroys the containers.
    pub async fn end(mut self) {
        self.kill_where(|_| true);
        self.drain().await;
        join_all(self.slots.into_values().map(Slot::destroy)).await;
    }

    /// Does what must be done in the order of the lines. Returns the rest as a future.
    fn begin(&mut self, id: &Value, container: Option<String>, op: Op) -> Result<Work, Failure> {
        let name = container.as_deref().unwrap_or("main");
        Ok(match op {
            Op::Build(request) => self.build(name, &request)?,
            Op::Run(run) => self.run(id, name, &run)?,
            Op::Kill { run } => ready(self.kill(&run, container.as_deref())).boxed(),
            Op::Reset {} => self.reset(name),
            Op::Write { path, data, data_base64, mode } => {
                let data = decode_bytes(data, data_base64)?;
                self.with_container(name, move |it| async move {
                    it.file(path).mode(mode.unwrap_or(0o644)).write(data).await
                })
            }
            Op::Read { path, limit_bytes } => {
                let container = self.slot(name).container.clone();
                let read = async move { container.await?.read(path, limit_bytes.unwrap_or(READ_BYTES)).await };
                read.map(|data| Ok(with_bytes(json!({}), "data", data?))).boxed()
            }
            Op::Symlink { target, path } => {
                self.with_container(name, |it| async move { it.symlink([(target, path)]).await?.into_iter().collect() })
            }
            Op::Delete { path } => self.with_container(name, |it| async move { it.delete(path).await }),
            Op::Ping {} => self.with_container(name, |it| async move { it.ping(PING_DEADLINE).await }),
            Op::Destroy {} => match self.slots.remove(name) {
                Some(slot) => slot.destroy().map(|()| Ok(json!({}))).boxed(),
                None => ready(Ok(json!({}))).boxed(),
            },
        })
    }

    fn build(&mut self, name: &str, request: &BuildRequest) -> Result<Work, Failure> {
        if self.slots.get(name).is_some_and(|slot| !slot.has_failed()) {
            return Err(Failure::invalid(format!("there is already a container {name:?}: destroy it first")));
        }
        if request.tmpfs_bytes == Some(0) {
            return Err(Failure::invalid("tmpfs_bytes must not be 0, which would mean no limit"));
        }
        let tmpfs = request.tmpfs_bytes.map_or_else(Tmpfs::new, |bytes| Tmpfs::new().bytes(bytes));
        let image = request.image.as_ref().map(|image| self.roots.named(image));
        let (mut builder, default_env) = base(image.or_else(|| self.roots.default.clone()), tmpfs);
        for bind in &request.binds {
            builder = builder.mount(bind.parse()?);
        }
        if let Some(setup) = &request.setup {
            let mut command = run::program("setup", setup)?;
            command.envs(default_env.iter().map(|Variable { key, value }| (key, value)));
            builder = builder.setup_command(command);
        }
        self.slots.insert(name.to_owned(), Slot::new(builder, default_env));
        Ok(self.with_container(name, |_| ready(Ok(()))))
    }

    fn run(&mut self, id: &Value, name: &str, request: &RunRequest) -> Result<Work, Failure> {
        let command = run::command(request, &self.slot(name).default_env)?;
        let (kill, killed) = oneshot::channel();
        self.forget_finished_runs();
        self.runs.push(OpenRun { id: id.clone(), container: name.to_owned(), kill });
        let slot = self.slot(name);
        let capture_bytes = request.capture_bytes.unwrap_or(CAPTURE_BYTES);
        let container = slot.container.clone();
        if request.beside {
            let start = async move { Ok((container.await?.beside().spawn(&command).await?, None)) };
            return Ok(run::respond(start, capture_bytes, killed).boxed());
        }
        let turn = slot.turns.join();
        let start = async move {
            // The queue ends only with the runtime.
            let turn = turn.await.ok();
            let process = container.await?.spawn(&command).await?;
            Ok((process, turn))
        };
        Ok(run::respond(start, capture_bytes, killed).boxed())
    }

    fn kill(&mut self, id: &Value, container: Option<&str>) -> Result<Value, Failure> {
        self.forget_finished_runs();
        match self.kill_where(|run| run.id == *id && container.is_none_or(|name| name == run.container)) {
            0 => Err(Failure::invalid(format!("no run with the id {id} is open"))),
            _ => Ok(json!({})),
        }
    }

    fn reset(&mut self, name: &str) -> Work {
        let turn = self.slot(name).turns.join();
        self.with_container(name, |container| async move {
            let _turn = turn.await;
            container.reset().await
        })
    }

    /// Does something with a container once it is built.
    fn with_container<F>(&mut self, name: &str, work: impl FnOnce(Container) -> F + Send + 'static) -> Work
    where
        F: Future<Output = cellblock::Result<()>> + Send + 'static,
    {
        let container = self.slot(name).container.clone();
        let done = async { work(container.await?).await };
        done.map(|done| Ok(done.map(|()| json!({}))?)).boxed()
    }

    /// The container of this name. Starts to build it if there is none, or if its build failed.
    fn slot(&mut self, name: &str) -> &Slot {
        self.slots.retain(|it, slot| it != name || !slot.has_failed());
        let root = &self.roots.default;
        self.slots.entry(name.to_owned()).or_insert_with(|| {
            let (builder, default_env) = base(root.clone(), Tmpfs::new());
            Slot::new(builder, default_env)
        })
    }

    fn forget_finished_runs(&mut self) {
        self.runs.retain(|run| !run.kill.is_closed());
    }

    /// Kills the matching runs. Returns how many there were.
    fn kill_where(&mut self, is_match: impl FnMut(&OpenRun) -> bool) -> usize {
        let (killed, open): (Vec<_>, _) = std::mem::take(&mut self.runs).into_iter().partition(is_match);
        self.runs = open;
        // The newest first. Otherwise a run could get its turn when the one before it is killed.
        killed.into_iter().rev().map(drop).count()
    }
}

/// A builder over a root, or over the host's programs, and the variables of a run that sets none.
fn base(root: Option<Root>, tmpfs: Tmpfs) -> (ContainerBuilder, Vec<Variable>) {
    match root {
        // An image has its own variables.
        Some(root) => {
            let builder = Container::builder().root(root.changes(tmpfs));
            (builder.mounts(Mount::defaults_over_root(tmpfs)), Vec::new())
        }
        None => (Container::builder().mounts(Mount::defaults(tmpfs)), vec![Variable::path()]),
    }
}
