//! Spans of containers and runs.

#[cfg(feature = "tracing")]
pub(crate) use enabled::{RunSpan, in_container_span};

#[cfg(not(feature = "tracing"))]
pub(crate) use disabled::{RunSpan, in_container_span};

#[cfg(feature = "tracing")]
mod enabled {
    use std::ffi::OsStr;
    use std::fmt;

    use tracing::{Instrument, Span, field, info_span};

    use crate::limits::Held;
    use crate::report::Report;

    /// Runs the life of a container, from its build to its end, in a span.
    pub(crate) fn in_container_span<F: Future>(life: F) -> impl Future<Output = F::Output> {
        life.instrument(info_span!("container"))
    }

    /// The span of a run, inside the span of its caller.
    #[derive(Debug)]
    pub(crate) struct RunSpan(Span);

    impl RunSpan {
        /// `slot` is that of the lease.
        pub(crate) fn open(program: &OsStr, slot: Option<usize>, limits: &[Held]) -> Self {
            let span = info_span!(
                "run",
                program = field::debug(program),
                slot = slot.map(|slot| slot as u64),
                limits = field::display(List(limits)),
                status = field::Empty,
                verdict = field::Empty
            );
            Self(span)
        }

        pub(crate) fn finish(self, report: &Report) {
            self.0.record("status", field::display(report.status));
            self.0.record("verdict", report.verdict().name());
        }
    }

    /// `memory=67108864 processes=256`, in the units of [`Limit`](crate::limits::Limit).
    struct List<'a>(&'a [Held]);

    impl fmt::Display for List<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (place, held) in self.0.iter().enumerate() {
                let space = if place == 0 { "" } else { " " };
                write!(f, "{space}{}={}", held.limit, held.value)?;
            }
            Ok(())
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use std::ffi::OsStr;

    use crate::limits::Held;
    use crate::report::Report;

    pub(crate) fn in_container_span<F: Future>(life: F) -> F {
        life
    }

    #[derive(Debug)]
    pub(crate) struct RunSpan;

    impl RunSpan {
        pub(crate) fn open(_: &OsStr, _: Option<usize>, _: &[Held]) -> Self {
            Self
        }

        pub(crate) fn finish(self, _: &Report) {}
    }
}
