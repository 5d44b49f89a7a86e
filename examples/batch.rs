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

use cellblock::{Command, Container, Lease, Limits, Pool, pool::Job};
use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runs = std::env::args().nth(1).map_or(Ok(1000), |runs| runs.parse::<u64>())?;
    // Any recorder of the `metrics` crate will do. A service would install an exporter here.
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    recorder.install()?;

    // Each job squares its number, in a container that was reset.
    let jobs = stream::iter((0..runs).map(|number| {
        Job::new(number, async move |lease: &Lease| {
            let limits = Limits::new().cpu_time(Duration::from_secs(1)).memory(64 << 20).allow_weaker(true);
            let square = "read number; echo $((number * number)); exit $((number % 10 == 9))";
            lease.output(Command::new("sh").args(["-c", square]).stdin(number.to_string()).limits(limits)).await
        })
    }));
    let pool = Pool::builder(Container::builder()).build().await?;
    let (bar, mut verdicts) = (ProgressBar::new(runs), BTreeMap::<_, u64>::new());
    let mut results = pool.stream(jobs);
    while let Some((number, result)) = results.next().await {
        let output = result?;
        assert_eq!(output.stdout_lossy(), format!("{}\n", number * number));
        *verdicts.entry(output.verdict().name()).or_default() += 1;
        bar.inc(1);
    }
    bar.finish();
    pool.shutdown(Duration::from_secs(1)).await;

    let mut lines: Vec<_> = verdicts.into_iter().map(|(verdict, count)| format!("{verdict}: {count}")).collect();
    for (key, _, _, value) in metrics.snapshot().into_vec() {
        let labels = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value()));
        lines.push(format!("{}{}: {}", key.key().name(), labels.collect::<String>(), summary(value)));
    }
    lines.sort();
    println!("{}", lines.join("\n"));
    Ok(())
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
