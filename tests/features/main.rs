//! The optional features: metrics, tracing spans, and a pool as a tower service.
//!
//! A suite by itself, because it is built only with all features:
//! `cargo test --all-features --test features`.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cellblock::{Command, ErrorKind, Lease, Pool};
use futures::poll;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tower_service::Service;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

use common::{SECOND, alone, builder, sh};

#[test]
fn metrics_count_leases_waits_runs_and_replaced_containers() {
    static FIGURES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    metrics::set_global_recorder(Figures(&FIGURES)).unwrap();
    alone(async |_| {
        FIGURES.lock().unwrap().clear();
        let pool = Pool::builder(builder()).size(1).queue(0).build().await.unwrap();
        let ready = async || {
            while pool.status().ready == 0 {
                tokio::time::sleep(SECOND / 1000).await;
            }
        };
        pool.run(&sh(":")).await.unwrap();
        ready().await;
        pool.run(&sh("exit 3")).await.unwrap();
        ready().await;
        let lease = pool.lease().await.unwrap();
        assert_eq!(pool.lease().await.unwrap_err().kind(), ErrorKind::Busy);
        Lease::discard(lease);
        ready().await;
        pool.shutdown(SECOND).await;
        let figures = FIGURES.lock().unwrap();
        let at_least = |name: &str, least| {
            let figure = figures.get(name).copied().unwrap_or(0);
            assert!(figure >= least, "{name} is {figure}: {figures:?}");
        };
        at_least("cellblock_leases_total", 3);
        at_least("cellblock_busy_total", 1);
        at_least("cellblock_replaced_total", 1);
        at_least("cellblock_runs_total verdict=ok", 1);
        at_least("cellblock_runs_total verdict=nonzero_exit", 1);
        at_least("cellblock_seconds phase=wait", 3);
        at_least("cellblock_seconds phase=lease", 3);
        at_least("cellblock_seconds phase=reset", 2);
        at_least("cellblock_seconds phase=build", 2);
        at_least("cellblock_seconds phase=run", 2);
    });
}

#[test]
fn containers_and_runs_have_spans() {
    let spans = Spans::default();
    let seen = Arc::clone(&spans.seen);
    tracing::subscriber::set_global_default(spans).unwrap();
    alone(async |_| {
        let container = common::container().await;
        container.run(&sh("exit 3")).await.unwrap();
        container.destroy().await;
        while !seen.lock().unwrap().iter().any(|line| line == "run in container: closed") {
            tokio::time::sleep(SECOND / 100).await;
        }
        let seen = seen.lock().unwrap();
        for line in ["container: opened", "run in container: verdict=\"nonzero_exit\"", "container: closed"] {
            assert!(seen.iter().any(|it| it == line), "{line}: {seen:?}");
        }
    });
}

#[test]
fn a_service_is_ready_once_it_holds_a_lease() {
    alone(async |snapshot| {
        let pool = Pool::builder(builder()).size(1).build().await.unwrap();
        let mut service = pool.service();
        poll_fn(|context| service.poll_ready(context)).await.unwrap();
        poll_fn(|context| service.poll_ready(context)).await.unwrap();
        assert_eq!(pool.status().leased, 1, "once");
        let mut other = service.clone();
        let ready = poll_fn(|context| other.poll_ready(context));
        let mut ready = Box::pin(ready);
        assert!(poll!(&mut ready).is_pending(), "backpressure");
        let output = service.call(sh("echo hello")).await.unwrap();
        assert_eq!(output.stdout, b"hello\n");
        ready.await.unwrap();
        drop(other);
        assert!(service.call(Command::new("/bin/true")).await.unwrap().report.status.success(), "ready or not");
        pool.shutdown(SECOND).await;
        let error = poll_fn(|context| service.poll_ready(context)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        drop((service, pool));
        snapshot.assert_restored().await;
    });
}

/// A recorder that counts by name and labels.
struct Figures(&'static Mutex<BTreeMap<String, u64>>);

struct Figure(&'static Mutex<BTreeMap<String, u64>>, String);

impl Figure {
    fn add(&self, more: u64) {
        *self.0.lock().unwrap().entry(self.1.clone()).or_default() += more;
    }
}

impl CounterFn for Figure {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for Figure {
    fn record(&self, seconds: f64) {
        assert!((0.0..60.0).contains(&seconds));
        self.add(1);
    }
}

impl Figures {
    fn figure(&self, key: &Key) -> Arc<Figure> {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        Arc::new(Figure(self.0, key.name().to_owned() + &labels.collect::<String>()))
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.figure(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.figure(key))
    }
}

/// A subscriber that records what happens to each span.
#[derive(Default)]
struct Spans {
    seen: Arc<Mutex<Vec<String>>>,
    names: Mutex<BTreeMap<u64, (String, u64)>>,
    entered: Mutex<Vec<u64>>,
    last: AtomicU64,
}

impl Spans {
    fn say(&self, id: &Id, what: impl std::fmt::Display) {
        let name = self.names.lock().unwrap()[&id.into_u64()].0.clone();
        self.seen.lock().unwrap().push(format!("{name}: {what}"));
    }
}

struct Said<'a>(&'a Spans, &'a Id);

impl Visit for Said<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.say(self.1, format_args!("{}={value:?}", field.name()));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("cellblock")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let name = span.metadata().name();
        let outer = self.entered.lock().unwrap().last().map(|outer| self.names.lock().unwrap()[outer].0.clone());
        let name = outer.map_or(name.to_owned(), |outer| format!("{name} in {outer}"));
        self.names.lock().unwrap().insert(id, (name, 1));
        self.say(&Id::from_u64(id), "opened");
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut Said(self, id));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        self.entered.lock().unwrap().push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        let mut entered = self.entered.lock().unwrap();
        if let Some(place) = entered.iter().rposition(|it| *it == id.into_u64()) {
            entered.remove(place);
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.names.lock().unwrap().get_mut(&id.into_u64()).unwrap().1 += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let left = {
            let mut names = self.names.lock().unwrap();
            let count = &mut names.get_mut(&id.into_u64()).unwrap().1;
            *count -= 1;
            *count
        };
        if left == 0 {
            self.say(&id, "closed");
        }
        left == 0
    }
}
