//! One run of a small program by cellblock, and by what people use in its place.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`. The subjects take turns, a few
//! runs of each at a time, so that a machine whose speed drifts slows all of them. The table shows
//! the median of each and of its ratio to a bare spawn in the same round.
//!
//! Invariant: every run is checked. A subject that does not do the work ends the bench.

mod subjects;
mod table;

use std::time::{Duration, Instant};

use subjects::{Subject, Work, subjects};

/// How many runs one subject makes in a turn.
const TURN: u32 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    cellblock::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rounds = rounds(std::env::args().skip(1))?;
    let mut subjects = subjects(&runtime)?;
    let [spawn, echo] = Work::ALL.map(|work| measure(&mut subjects, work, rounds));
    let names: Vec<_> = subjects.iter().map(|subject| subject.name).collect();
    print!("{}", table::render(&names, &[spawn?, echo?]));
    println!("\n{rounds} rounds of {TURN} runs each, {}", table::machine());
    Ok(())
}

/// The number of rounds: 100, or the only argument.
fn rounds(mut arguments: impl Iterator<Item = String>) -> Result<usize, Box<dyn std::error::Error>> {
    let rounds = arguments.next().map_or(Ok(100), |count| count.parse())?;
    match (rounds, arguments.next()) {
        (1.., None) => Ok(rounds),
        _ => Err("usage: cellblock-peers [ROUNDS]".into()),
    }
}

/// The time of one run, for each subject and round.
fn measure(
    subjects: &mut [Subject<'_>],
    work: Work,
    rounds: usize,
) -> Result<Vec<Vec<Duration>>, Box<dyn std::error::Error>> {
    let mut times = vec![Vec::new(); subjects.len()];
    // The first round warms the caches and is not counted.
    for round in 0..=rounds {
        // Each round begins with another subject: none has the same one before it in all rounds.
        for turn in 0..subjects.len() {
            let at = (turn + round) % subjects.len();
            let start = Instant::now();
            for _ in 0..TURN {
                (subjects[at].run)(work).map_err(|error| format!("{}: {error}", subjects[at].name))?;
            }
            if round > 0 {
                times[at].push(start.elapsed() / TURN);
            }
        }
    }
    Ok(times)
}
