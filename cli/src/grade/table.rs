//! The results for a terminal and for other programs: a table, and JSON.
//!
//! Invariant: both are made of the same results. The JSON has everything.

use std::time::Duration;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::{Value, json};

use super::result::{CaseVerdict, Judgment, SubmissionResult};
use super::text::{printable_line, seconds};

pub const HEADER: [&str; 9] =
    ["problem", "submission", "language", "expected", "got", "right", "slowest", "memory", ""];

/// The table, with a row for each result. Empty if there is none.
pub fn table<'a>(results: impl IntoIterator<Item = &'a SubmissionResult>) -> String {
    let mut table = Table::new();
    // On a terminal as wide as the terminal, in a file or a pipe as wide as the content.
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(HEADER);
    for result in results {
        table.add_row(row(result));
    }
    for column in 5..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if table.is_empty() { String::new() } else { format!("{table}\n") }
}

/// A row of the table, with a cell for each column of the [`HEADER`].
pub fn row(result: &SubmissionResult) -> [String; HEADER.len()] {
    let cases = result.cases();
    let accepted = cases.iter().filter(|case| case.result.verdict == CaseVerdict::Accepted).count();
    let mark = match (&result.judgment, result.as_expected) {
        (Judgment::Skipped(_), _) => "–",
        (_, true) => "✓",
        (_, false) => "✗",
    };
    [
        printable_line(&result.problem),
        printable_line(&result.submission),
        result.language.clone(),
        result.expected.clone(),
        printable_line(&result.summary()),
        if cases.is_empty() { String::new() } else { format!("{accepted}/{}", cases.len()) },
        result.slowest().map_or_else(String::new, |time| seconds(time) + " s"),
        result.memory().map_or_else(String::new, |bytes| format!("{} MiB", bytes.div_ceil(1 << 20))),
        mark.into(),
    ]
}

/// The lines below the table: why a result is not as expected, and notes.
pub fn remarks(results: &[SubmissionResult]) -> Vec<String> {
    let mut remarks = Vec::new();
    for result in results {
        let name = printable_line(&format!("{}: {}", result.problem, result.submission));
        let name = name.trim_end_matches(": ");
        let is_compile_error = matches!(result.judgment, Judgment::CompileError(_));
        if (!result.as_expected || is_compile_error) && !result.message().is_empty() {
            let message = result.message().trim_end().replace('\n', "\n    ");
            remarks.push(format!("{name}: {}\n    {message}", printable_line(&result.summary())));
        }
        remarks.extend(result.notes.iter().map(|note| format!("{name}: {note}")));
    }
    remarks
}

/// The totals, as a line.
pub fn totals(results: &[SubmissionResult], elapsed: Duration) -> String {
    let count = |is_match: fn(&SubmissionResult) -> bool| results.iter().filter(|result| is_match(result)).count();
    let skipped = count(|result| matches!(result.judgment, Judgment::Skipped(_)));
    let unexpected = count(|result| !result.as_expected);
    let expected = results.len() - unexpected - skipped;
    let runs: usize = results.iter().map(|result| result.cases().len()).sum();
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    format!("{expected} as expected, {unexpected} not{skipped}; {runs} runs in {} s", seconds(elapsed))
}

/// All results as JSON. `pass_at_1` is how many attempts have passed, of how many.
pub fn json(results: &[SubmissionResult], pass_at_1: Option<(usize, usize)>) -> Value {
    let mut all = json!({
        "as_expected": results.iter().all(|result| result.as_expected),
        "submissions": results,
    });
    if let Some((passed, of)) = pass_at_1 {
        all["pass_at_1"] = json!({"passed": passed, "of": of});
    }
    all
}
