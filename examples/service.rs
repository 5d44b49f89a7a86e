//! An HTTP service that runs programs in a pool.
//!
//! ```text
//! cargo run --release --example service [ADDRESS]      default: 127.0.0.1:8080
//! curl -H 'Content-Type: application/json' 127.0.0.1:8080/run \
//!     -d '{"args": ["python3", "-c", "print(6 * int(input()))"], "stdin": "7"}'
//! ```
//!
//! The answer has the verdict, the outputs and the report. As many programs run at once as there
//! are processors, and as many again wait in the queue. Further requests get 503 at once. On Ctrl-C
//! or SIGTERM the service accepts no more requests, answers the accepted ones, and destroys its
//! containers.
//!
//! A client cannot hold a connection for long. Each connection is for one request, and it has
//! deadlines for the head, for the body and for everything. A limit on connections leaves enough
//! descriptors for the containers. Further clients wait in the queue of the socket until a
//! connection ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, FromRequest, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use cellblock::{Command, Container, Error, ErrorKind, Limits, Pool, Report, Verdict};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Each connection takes a descriptor. The containers need the others.
const MAX_CONNECTIONS: usize = 64;
/// For the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);
/// For the body of a request.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// For a connection as a whole: the request, the queue, the run, and a slow reader of the answer.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);
/// For the accepted requests, after a signal.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    args: Vec<String>,
    #[serde(default)]
    stdin: String,
}

#[derive(Serialize)]
struct Answer {
    verdict: Verdict,
    stdout: String,
    stderr: String,
    report: Report,
}

type Failure = (StatusCode, String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = TcpListener::bind(&address).await.map_err(|error| format!("{address}: {error}"))?;
    let size = std::thread::available_parallelism()?.get();
    let pool = Pool::builder(Container::builder()).size(size).queue(size).build().await?;
    let router = Router::new().route("/run", post(run)).with_state(pool.clone());
    eprintln!("listening on http://{}", listener.local_addr()?);
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, &router, &connections) => {}
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    drop(listener);
    timeout(SHUTDOWN_DEADLINE, connections.shutdown()).await.ok();
    pool.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Accepts connections and serves each in a task of its own.
async fn accept(listener: &TcpListener, router: &Router, connections: &GracefulShutdown) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).keep_alive(false);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // The process may lack descriptors. Some come back.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that breaks its connection is no failure of the service.
            timeout(CONNECTION_DEADLINE, connection).await.ok();
            drop(permit);
        });
    }
}

async fn run(State(pool): State<Pool>, request: extract::Request) -> Result<Json<Answer>, Failure> {
    let late = |_| (StatusCode::REQUEST_TIMEOUT, "the body took too long\n".to_owned());
    let body = timeout(BODY_DEADLINE, Json::<Request>::from_request(request, &())).await.map_err(late)?;
    let Json(request) = body.map_err(|rejection| (rejection.status(), rejection.body_text()))?;
    let [program, args @ ..] = request.args.as_slice() else {
        return Err((StatusCode::BAD_REQUEST, "args must contain at least the name of a program\n".into()));
    };
    let limits = Limits::new()
        .cpu_time(Duration::from_secs(1))
        .wall_time(Duration::from_secs(5))
        .memory(256 << 20)
        .processes(64)
        .output(1 << 20)
        .allow_weaker(true);
    let mut command = Command::new(program);
    command.args(args).env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(request.stdin).limits(limits);
    // A client that disconnects drops this future, and that kills the program.
    let output = pool.output(&command).await.map_err(failure)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let verdict = output.report.verdict();
    Ok(Json(Answer { verdict, stdout: text(output.stdout), stderr: text(output.stderr), report: output.report }))
}

/// The status of an error: 400 if the client is at fault, as with a program that does not exist.
fn failure(error: Error) -> Failure {
    let status = match error.kind() {
        ErrorKind::Exec | ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Busy | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let advice = if error.kind() == ErrorKind::Busy { "; try again in a second" } else { "" };
    (status, format!("{error}{advice}\n"))
}
