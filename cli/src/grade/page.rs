//! The results as one page of HTML.
//!
//! Invariant: the page loads nothing, and every text of a package or a program is escaped.

use std::fmt::Write;
use std::time::Duration;

use super::result::SubmissionResult;
use super::table::{HEADER, row};
use super::text::{printable, seconds};
use super::workers::{Activity, Span};

const STYLE: &str = include_str!("page.css");
/// How many of the slowest cases the page lists.
const SLOWEST: usize = 20;
/// The width of the timeline.
const WIDTH: f64 = 1000.0;
/// The height of a lane of the timeline.
const LANE: f64 = 26.0;

/// The page for these results and activities of containers.
pub fn page(results: &[SubmissionResult], spans: &[Span], totals: &str) -> String {
    let (table, slowest, timeline) = (table(results), slowest(results), timeline(spans));
    let totals = escaped(totals);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Grading</title>\n<style>{STYLE}</style>\n\
         <h1>Grading</h1>\n<p>{totals}</p>\n{table}\n{slowest}\n{timeline}\n</html>\n"
    )
}

fn table(results: &[SubmissionResult]) -> String {
    // Writing to a `String` never fails, here and below.
    let mut html = String::from("<table>\n<tr>");
    for head in HEADER {
        let _ = write!(html, "<th>{head}</th>");
    }
    html.push_str("</tr>\n");
    for result in results {
        let class = if result.as_expected { "good" } else { "bad" };
        let cells = row(result).map(|cell| format!("<td>{}</td>", escaped(&cell))).concat();
        let _ = writeln!(html, "<tr class=\"{class}\">{cells}</tr>");
        if !result.message().is_empty() {
            let message = escaped(result.message());
            let _ = writeln!(html, "<tr class=\"message\"><td colspan=\"9\"><pre>{message}</pre></td></tr>");
        }
    }
    html + "</table>"
}

fn slowest(results: &[SubmissionResult]) -> String {
    let cases = results.iter().flat_map(|result| result.cases().iter().map(move |case| (result, case)));
    let mut cases: Vec<_> = cases.collect();
    cases.sort_by_key(|(_, case)| std::cmp::Reverse(case.result.cpu_us));
    let mut html = String::from(
        "<h2>Slowest cases</h2>\n<table>\n<tr><th>problem</th><th>submission</th><th>case</th><th>verdict</th><th>CPU</th>\
         <th>wall</th></tr>\n",
    );
    for (submission, case) in cases.into_iter().take(SLOWEST) {
        let [problem, submission, name] =
            [&submission.problem, &submission.submission, &case.name].map(|text| escaped(text));
        let (cpu, wall) = (seconds(case.result.cpu()), seconds(case.result.wall()));
        let verdict = case.result.verdict.abbreviation();
        let _ = writeln!(
            html,
            "<tr><td>{problem}</td><td>{submission}</td><td>{name}</td><td>{verdict}</td><td>{cpu} s</td><td>{wall} s</td></tr>"
        );
    }
    html + "</table>"
}

/// The timeline: a lane for each container, a box for each activity.
fn timeline(spans: &[Span]) -> String {
    let lanes = spans.iter().map(|span| span.container + 1).max().unwrap_or(0);
    let end = spans.iter().map(|span| span.to).max().unwrap_or_default().as_secs_f64().max(1e-3);
    let x = |time: Duration| time.as_secs_f64() / end * WIDTH;
    let height = lanes as f64 * LANE + 24.0;
    let mut svg = format!(
        "<h2>What each container did</h2>\n<p class=\"legend\"><span class=\"build\"></span> builds \
         <span class=\"run\"></span> runs a submission <span class=\"validate\"></span> validates</p>\n\
         <svg viewBox=\"-30 0 {} {height}\" role=\"img\" aria-label=\"timeline\">\n",
        WIDTH + 60.0
    );
    for lane in 0..lanes {
        let y = lane as f64 * LANE;
        let _ = writeln!(svg, "<text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", y + LANE * 0.65, lane + 1);
        let _ = writeln!(
            svg,
            "<rect class=\"lane\" x=\"0\" y=\"{:.1}\" width=\"{WIDTH}\" height=\"{}\"/>",
            y + 2.0,
            LANE - 4.0
        );
    }
    for span in spans {
        let class = match span.activity {
            Activity::Build => "build",
            Activity::Run => "run",
            Activity::Validate => "validate",
        };
        let (from, width, y) = (x(span.from), x(span.to - span.from).max(0.3), span.container as f64 * LANE + 2.0);
        let (label, took) = (escaped(&span.label), seconds(span.to - span.from));
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{from:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{}\"><title>{label}, {took} s\
             </title></rect>",
            LANE - 4.0
        );
    }
    for tick in 0..=10 {
        let at = f64::from(tick) / 10.0;
        let (x, y) = (at * WIDTH, height - 8.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{:.1} s</text>", at * end);
    }
    svg + "</svg>"
}

fn escaped(text: &str) -> String {
    printable(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
