//! Spans of containers and runs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Subscriber};

use cellblock::{Limits, Pool};

use crate::common::{SECOND, alone, builder, eventually, sh};

#[test]
fn a_run_has_a_span_inside_its_callers_with_program_slot_limits_and_verdict() {
    let spans = Spans::default();
    let seen = Arc::clone(&spans.seen);
    tracing::subscriber::set_global_default(spans).unwrap();
    alone(async |_| {
        let pool = Pool::builder(builder()).size(1).build().await.unwrap();
        let caller = tracing::info_span!(target: "cellblock_test", "request");
        let limits = Limits::new().wall_time(SECOND).allow_weaker(true);
        pool.run(sh("exit 3").limits(limits)).instrument(caller).await.unwrap();
        // Outside of any span.
        pool.run(sh("exit 4")).await.unwrap();
        pool.shutdown(SECOND).await;
        let has = |line: &str| seen.lock().unwrap().iter().any(|it| it == line);
        eventually("both runs are over", || has("run in request: closed") && has("run: status=exited with 4")).await;
        eventually("the container is over", || has("container: closed")).await;
        let seen = seen.lock().unwrap();
        for line in [
            "container: opened",
            "run in request: program=\"/bin/sh\"",
            "run in request: slot=0",
            "run in request: status=exited with 3",
            "run in request: verdict=\"nonzero_exit\"",
            "run: status=exited with 4",
            "container: closed",
        ] {
            assert!(seen.iter().any(|it| it == line), "{line}: {seen:?}");
        }
        let limits = seen.iter().find(|line| line.starts_with("run in request: limits=")).unwrap();
        assert!(limits.contains("wall_time=1000000") && limits.contains("open_files="), "{limits}");
    });
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
        span.record(&mut Said(self, &Id::from_u64(id)));
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
