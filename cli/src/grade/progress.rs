//! The progress bar: how many cases have finished, with which verdicts, and the time that is left.
//!
//! Invariant: it is on standard error, and only if that is a terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::result::CaseVerdict;

pub struct Progress {
    bar: ProgressBar,
    counts: Mutex<BTreeMap<CaseVerdict, u64>>,
}

impl Progress {
    /// Shows a bar for this many cases.
    pub fn start(cases: usize) -> Self {
        let bar = ProgressBar::new(cases as u64);
        let template = "{elapsed_precise} {bar:30.green/dim} {pos}/{len} cases  {msg}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, counts: Mutex::default() }
    }

    /// Counts a finished case.
    pub fn finish_case(&self, verdict: CaseVerdict) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(verdict).or_default() += 1;
        let counts: Vec<_> =
            counts.iter().map(|(verdict, count)| format!("{} {count}", verdict.abbreviation())).collect();
        self.bar.set_message(counts.join("  "));
        self.bar.inc(1);
    }

    /// Counts cases that will not run.
    pub fn skip_cases(&self, cases: usize) {
        self.bar.inc(cases as u64);
    }

    /// Removes the bar.
    pub fn stop(&self) {
        self.bar.finish_and_clear();
    }
}
