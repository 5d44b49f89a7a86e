//! The bar on a terminal: how far it is, what was found, how long it may still take.
//!
//! Invariant: it goes to standard error, and is nothing where that is no terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::verdict::Verdict;

pub struct Progress {
    bar: ProgressBar,
    counts: Mutex<BTreeMap<Verdict, u64>>,
}

impl Progress {
    /// A bar for this many cases.
    pub fn new(cases: usize) -> Self {
        let bar = ProgressBar::new(cases as u64);
        let template = "{elapsed_precise} {bar:30.green/dim} {pos}/{len} cases  {msg}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, counts: Mutex::default() }
    }

    pub fn finished(&self, verdict: Verdict) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(verdict).or_default() += 1;
        let words: Vec<_> = counts.iter().map(|(verdict, count)| format!("{} {count}", verdict.short())).collect();
        self.bar.set_message(words.join("  "));
        self.bar.inc(1);
    }

    /// Cases that will not be run.
    pub fn left_out(&self, cases: usize) {
        self.bar.inc(cases as u64);
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
