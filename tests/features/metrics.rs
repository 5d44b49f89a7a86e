//! Metrics of pools and runs.

use std::collections::BTreeMap;
use std::time::Duration;

use cellblock::pool::Job;
use cellblock::{ErrorKind, Lease, Pool};
use futures::{StreamExt, stream};
use metrics::Unit;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::common::{SECOND, alone, builder, eventually, sh};

#[test]
fn metrics_count_leases_waits_runs_and_replaced_containers() {
    let recorder = DebuggingRecorder::new();
    let mut totals = Totals { metrics: recorder.snapshotter(), totals: BTreeMap::new() };
    recorder.install().unwrap();
    alone(async |_| {
        let pool = Pool::builder(builder()).size(1).queue(0).build().await.unwrap();
        let wait_until_ready = async || eventually("the pool is ready", || pool.status().ready == 1).await;
        pool.run(&sh(":")).await.unwrap();
        wait_until_ready().await;
        pool.run(&sh("exit 3")).await.unwrap();
        wait_until_ready().await;
        let lease = pool.lease().await.unwrap();
        assert_eq!(totals.get("cellblock_containers state=leased"), 1.0);
        assert_eq!(totals.get("cellblock_containers state=ready"), 0.0);
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Busy);
        Lease::discard(lease);
        wait_until_ready().await;
        // A second pool adds up.
        let other = Pool::builder(builder()).size(1).build().await.unwrap();
        assert_eq!(totals.get("cellblock_containers state=ready"), 2.0);
        let taken = other.lease().await.unwrap();
        let mut waiting = Box::pin(other.lease());
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(totals.get("cellblock_waiting"), 1.0);
        drop((waiting, taken));
        assert_eq!(totals.get("cellblock_waiting"), 0.0);
        retry_once(&other).await;
        other.shutdown(SECOND).await;
        pool.shutdown(SECOND).await;
        drop((pool, other));
        for state in ["ready", "leased", "returning", "building"] {
            assert_eq!(totals.get(&format!("cellblock_containers state={state}")), 0.0, "{state}");
        }
        for (name, least) in [
            ("cellblock_leases_total", 3.0),
            ("cellblock_busy_total", 1.0),
            ("cellblock_replaced_total", 1.0),
            ("cellblock_retries_total", 1.0),
            ("cellblock_runs_total verdict=ok", 1.0),
            ("cellblock_runs_total verdict=nonzero_exit", 1.0),
            ("cellblock_seconds phase=wait", 3.0),
            ("cellblock_seconds phase=lease", 3.0),
            ("cellblock_seconds phase=reset", 2.0),
            ("cellblock_seconds phase=build", 2.0),
            ("cellblock_seconds phase=run", 2.0),
        ] {
            let count = totals.get(name);
            assert!(count >= least, "{name} is {count}");
        }
    });
}

/// Does a job whose first attempt times out.
async fn retry_once(pool: &Pool) {
    let attempts = std::cell::Cell::new(0);
    let job = Job::new((), async |lease: &Lease| {
        attempts.set(attempts.get() + 1);
        if attempts.get() == 1 {
            // This job has the only container.
            return Err(pool.lease_within(Duration::ZERO).await.unwrap_err());
        }
        lease.run(sh(":")).await
    });
    let results: Vec<_> = pool.stream(stream::iter([job])).collect().await;
    assert!(results[0].1.is_ok() && attempts.get() == 2, "{results:?}");
}

/// The sum of each counter and gauge, and the number of values in each histogram, by name and
/// labels. A snapshot sets all of them to zero, and gauges only ever change by one.
struct Totals {
    metrics: Snapshotter,
    totals: BTreeMap<String, f64>,
}

impl Totals {
    fn get(&mut self, name: &str) -> f64 {
        self.add_snapshot();
        self.totals.get(name).copied().unwrap_or(f64::NAN)
    }

    /// Each metric must have a unit and a text for the recorder, and a line in the documentation.
    fn add_snapshot(&mut self) {
        for (key, unit, text, value) in self.metrics.snapshot().into_vec() {
            let name = key.key().name();
            let wanted = if name == "cellblock_seconds" { Unit::Seconds } else { Unit::Count };
            assert_eq!(unit, Some(wanted), "{name}");
            assert!(text.is_some_and(|text| !text.is_empty()), "{name}");
            let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
            check_documentation(name, &labels);
            let labels: String = labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            *self.totals.entry(format!("{name}{labels}")).or_default() += amount(value);
        }
    }
}

fn amount(value: DebugValue) -> f64 {
    match value {
        DebugValue::Counter(count) => count as f64,
        DebugValue::Gauge(change) => change.into_inner(),
        DebugValue::Histogram(seconds) => {
            assert!(seconds.iter().all(|it| (0.0..60.0).contains(&it.into_inner())), "{seconds:?}");
            seconds.len() as f64
        }
    }
}

fn check_documentation(name: &str, labels: &[(&str, &str)]) {
    let documentation = include_str!("../../src/pool/mod.rs");
    let line = documentation.lines().find(|line| line.starts_with(&format!("//! | `{name}` | ")));
    let line = line.unwrap_or_else(|| panic!("{name} is not documented"));
    for (key, value) in labels {
        assert!(line.contains(&format!("`{key}`")), "{name} {key}");
        let values = documentation.lines().find(|line| line.starts_with(&format!("//! - `{key}`: "))).unwrap();
        assert!(*key == "verdict" || values.contains(&format!("`{value}`")), "{name} {key}={value}");
    }
}
