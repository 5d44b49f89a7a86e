//! Spans of containers and runs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

use crate::common::{SECOND, alone, container, sh};

#[test]
fn containers_and_runs_have_spans() {
    let spans = Spans::default();
    let seen = Arc::clone(&spans.seen);
    tracing::subscriber::set_global_default(spans).unwrap();
    alone(async |_| {
        let container = container().await;
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
