//! Failures that have no caller to be returned to.
//!
//! Invariant: the host's side of the library prints nothing. With the feature `tracing` such a
//! failure is an event; without it, it is dropped.

use std::fmt::Display;

/// Tells of a failure after which everything goes on.
#[cfg(feature = "tracing")]
pub(crate) fn warn(what: &str, failure: &dyn Display) {
    tracing::warn!(target: "cellblock", %failure, "{what}");
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn warn(_: &str, _: &dyn Display) {}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    #[derive(Clone, Default)]
    struct Events(Arc<Mutex<String>>);

    impl Visit for Events {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.lock().expect("no test panics").push_str(&format!(" {field}={value:?}"));
        }
    }

    impl Subscriber for Events {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            assert_eq!((event.metadata().level(), event.metadata().target()), (&Level::WARN, "cellblock"));
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_failure_without_a_caller_is_an_event() {
        let events = Events::default();
        tracing::subscriber::with_default(events.clone(), || super::warn("clean-up failed", &"no such group"));
        assert_eq!(*events.0.lock().unwrap(), " message=clean-up failed failure=no such group");
    }
}
