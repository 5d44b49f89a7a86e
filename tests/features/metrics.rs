//! Metrics of pools and runs.

use std::collections::BTreeMap;

use cellblock::{ErrorKind, Pool};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::common::{SECOND, alone, builder, eventually, sh};

#[test]
fn metrics_count_leases_waits_runs_and_replaced_containers() {
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    recorder.install().unwrap();
    alone(async |_| {
        let pool = Pool::builder(builder()).size(1).queue(0).build().await.unwrap();
        let wait_until_ready = async || eventually("the pool is ready", || pool.status().ready == 1).await;
        pool.run(&sh(":")).await.unwrap();
        wait_until_ready().await;
        pool.run(&sh("exit 3")).await.unwrap();
        wait_until_ready().await;
        let lease = pool.lease().await.unwrap();
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Busy);
        cellblock::Lease::discard(lease);
        wait_until_ready().await;
        pool.shutdown(SECOND).await;
        let counts = counts(&metrics);
        for (name, least) in [
            ("cellblock_leases_total", 3),
            ("cellblock_busy_total", 1),
            ("cellblock_replaced_total", 1),
            ("cellblock_runs_total verdict=ok", 1),
            ("cellblock_runs_total verdict=nonzero_exit", 1),
            ("cellblock_seconds phase=wait", 3),
            ("cellblock_seconds phase=lease", 3),
            ("cellblock_seconds phase=reset", 2),
            ("cellblock_seconds phase=build", 2),
            ("cellblock_seconds phase=run", 2),
        ] {
            let count = counts.get(name).copied().unwrap_or(0);
            assert!(count >= least, "{name} is {count}: {counts:?}");
        }
    });
}

/// The value of each counter and the number of values in each histogram, by name and labels.
fn counts(metrics: &Snapshotter) -> BTreeMap<String, u64> {
    let count = |value| match value {
        DebugValue::Counter(count) => count,
        DebugValue::Histogram(seconds) => {
            assert!(seconds.iter().all(|it| (0.0..60.0).contains(&it.into_inner())), "{seconds:?}");
            seconds.len() as u64
        }
        DebugValue::Gauge(_) => panic!("there are no gauges"),
    };
    let metrics = metrics.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let labels = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value()));
        (key.key().name().to_owned() + &labels.collect::<String>(), count(value))
    });
    metrics.collect()
}
