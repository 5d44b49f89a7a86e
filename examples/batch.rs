//! A thousand runs through a pool, with a progress bar, and the pool's metrics at the end.
//!
//! ```text
//! cargo run --release --features metrics --example batch [RUNS]
//! ```
//!
//! `Pool::stream` takes a job when a container is free, so that the source may be endless. It
//! retries a job once if the machine failed it, and yields results as they come.

use std::collections::BTreeMap;
use std::time::Duration;

use cellblock::{Command, Container, Error, Lease, Limits, Output, Pool, Stdio, pool::Job};
use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    cellblock::init(); // must come first: in a container's init this never returns
    let runs = std::env::args().nth(1).map_or(Ok(1000), |runs| runs.parse())?;
    // Any recorder of the `metrics` crate will do. A service would install an exporter here.
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    recorder.install()?;
    let verdicts = tokio::runtime::Runtime::new()?.block_on(batch(runs))?;
    for (verdict, count) in verdicts {
        println!("{verdict}: {count}");
    }
    let mut lines: Vec<_> = metrics
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value()));
            format!("{}{}: {}", key.key().name(), labels.collect::<String>(), summary(value))
        })
        .collect();
    lines.sort();
    println!("{}", lines.join("\n"));
    Ok(())
}

/// Runs all jobs and counts their verdicts.
async fn batch(runs: u64) -> Result<BTreeMap<String, u64>, Error> {
    let pool = Pool::builder(Container::builder()).build().await?;
    let (bar, mut verdicts) = (ProgressBar::new(runs), BTreeMap::new());
    let mut results = pool.stream(stream::iter((0..runs).map(job)));
    while let Some((number, result)) = results.next().await {
        let output = result?;
        let verdict = output.report.verdict();
        if verdict == cellblock::Verdict::Ok {
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", number * number));
        }
        *verdicts.entry(verdict.to_string()).or_default() += 1;
        bar.inc(1);
    }
    bar.finish();
    drop(results);
    pool.shutdown(Duration::from_secs(1)).await;
    Ok(verdicts)
}

/// A job squares its number. Each job gets a container that was reset.
fn job(number: u64) -> Job<u64, impl AsyncFn(&Lease) -> Result<Output, Error>> {
    Job::new(number, async move |lease: &Lease| {
        let limits = Limits::new().cpu_time(Duration::from_secs(1)).memory(64 << 20).allow_weaker(true);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read number; echo $((number * number)); exit $((number % 10 == 9))"]);
        lease.output(command.stdin(Stdio::bytes(number.to_string())).limits(limits)).await
    })
}

fn summary(value: DebugValue) -> String {
    match value {
        DebugValue::Counter(count) => count.to_string(),
        DebugValue::Gauge(level) => level.to_string(),
        DebugValue::Histogram(mut seconds) => {
            seconds.sort();
            let median = Duration::from_secs_f64(seconds[seconds.len() / 2].into_inner());
            format!("{} times, median {median:.0?}", seconds.len())
        }
    }
}
