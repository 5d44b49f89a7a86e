//! The results for a terminal and for other programs: a table, and JSON.
//!
//! Invariant: both are made of the same [`Graded`]s, and nothing is left out of the JSON.

use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::{Value, json};

use super::limits::seconds;
use super::verdict::{Got, Graded};

/// The table, a line for each; nothing where there is none.
pub fn table<'a>(graded: impl IntoIterator<Item = &'a Graded>) -> String {
    let mut table = Table::new();
    // For a person at a terminal as wide as it is; for a file or a pipe as wide as need be.
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["problem", "submission", "language", "expected", "got", "right", "slowest", "memory", ""]);
    for graded in graded {
        table.add_row(row(graded));
    }
    for column in 5..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if table.is_empty() { String::new() } else { format!("{table}\n") }
}

/// What a line of the table says, also for the page.
pub fn row(graded: &Graded) -> [String; 9] {
    let cases = graded.cases();
    let right = cases.len() - cases.iter().filter(|case| case.result.verdict.short() != "AC").count();
    let mark = match (&graded.got, graded.as_expected) {
        (Got::Skipped(_), _) => "–",
        (_, true) => "✓",
        (_, false) => "✗",
    };
    [
        graded.problem.clone(),
        graded.submission.clone(),
        graded.language.clone(),
        graded.expected.clone(),
        graded.in_short(),
        if cases.is_empty() { String::new() } else { format!("{right}/{}", cases.len()) },
        graded.slowest().map_or_else(String::new, |time| seconds(time) + " s"),
        graded.memory().map_or_else(String::new, |bytes| format!("{} MiB", bytes.div_ceil(1 << 20))),
        mark.into(),
    ]
}

/// What there is to say below the table: why something is not as expected, and what is odd.
pub fn remarks(graded: &[Graded]) -> Vec<String> {
    let mut remarks = Vec::new();
    for graded in graded {
        let name = format!("{}: {}", graded.problem, graded.submission);
        let name = name.trim_end_matches(": ");
        let is_compile_error = matches!(graded.got, Got::CompileError(_));
        if (!graded.as_expected || is_compile_error) && !graded.message().is_empty() {
            let words = graded.message().trim_end().replace('\n', "\n    ");
            remarks.push(format!("{name}: {}\n    {words}", graded.in_short()));
        }
        remarks.extend(graded.notes.iter().map(|note| format!("{name}: {note}")));
    }
    remarks
}

/// A line that sums up.
pub fn summary(graded: &[Graded], took: Duration) -> String {
    let count = |is_so: fn(&Graded) -> bool| graded.iter().filter(|graded| is_so(graded)).count();
    let skipped = count(|graded| matches!(graded.got, Got::Skipped(_)));
    let wrong = count(|graded| !graded.as_expected);
    let runs: usize = graded.iter().map(|graded| graded.cases().len()).sum();
    let skipped_words = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    let (right, took) = (graded.len() - wrong - skipped, seconds(took));
    format!("{right} as expected, {wrong} not{skipped_words}; {runs} runs in {took} s")
}

pub fn json(graded: &[Graded], pass_at_1: Option<(usize, usize)>) -> Value {
    let mut all = json!({
        "as_expected": graded.iter().all(|graded| graded.as_expected),
        "submissions": graded,
    });
    if let Some((passed, of)) = pass_at_1 {
        all["pass_at_1"] = json!({"passed": passed, "of": of});
    }
    all
}
