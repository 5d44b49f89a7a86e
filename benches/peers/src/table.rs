//! The table of medians.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

/// A row for each subject, a pair of columns for each work. `works` has the times of each work's
/// subjects, for each round.
pub fn render(names: &[&str], works: &[Vec<Vec<Duration>>; 2]) -> String {
    let mut table =
        "| one run, µs (times `posix_spawn`) | `/bin/true` | `/bin/echo`, limited and captured |\n".to_owned();
    table += "|---|---|---|\n";
    for (at, name) in names.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(table, "| {name} |");
        for times in works {
            let (floor, own) = (&times[0], &times[at]);
            let ratio = floor.iter().zip(own).map(|(floor, own)| own.as_secs_f64() / floor.as_secs_f64());
            let own = own.iter().map(|own| own.as_secs_f64() * 1e6);
            let _ = write!(table, " {:.0} ({:.2}) |", median(own), median(ratio));
        }
        table += "\n";
    }
    table
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the figures depend on: the kernel, the number of CPUs and bubblewrap's version.
pub fn machine() -> String {
    let said = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok().map(|output| output.stdout);
        output.map_or_else(|| program.to_owned(), |said| String::from_utf8_lossy(&said).trim().to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Linux {}, {cpus} CPUs, {}, {}",
        said("uname", "-r"),
        said("bwrap", "--version"),
        said("unshare", "--version")
    )
}
