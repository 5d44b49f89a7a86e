//! The programs that come with the library, as a user or another program meets them: by their streams and exit codes.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod console;
mod run;

use std::collections::BTreeSet;

use common::examples::{example, stderr, stdout};
use serde_json::Value;

#[test]
fn hello_prints_the_answer() {
    let output = example("hello").output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "42\n"), "{}", stderr(&output));
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn assert_report(report: &Value, status: &Value) {
    assert_eq!(report["status"], *status);
    let usage = &report["usage"];
    let figures = ["wall_us", "cpu_us", "user_us", "system_us", "memory_peak_bytes", "processes_peak", "set_up_us"];
    assert_eq!(keys(usage), figures.into(), "{report}");
    assert!(usage.as_object().unwrap().values().all(|figure| figure.is_u64() || figure.is_null()), "{report}");
}
