//! Two programs that talk: one keeps a number, the other guesses it.
//!
//! ```text
//! cargo run --example interactive [NUMBER]
//! ```
//!
//! `Pool::converse` runs each program in a container of its own. The stdout of each is the stdin of
//! the other, so both programs just print and read lines. Stderr is free for a log.

use std::time::Duration;

use cellblock::{Command, Container, Limits, Pool, Verdict};

/// Answers each guess, and accepts ten.
const KEEPER: &str = r#"
import sys
number = int(sys.argv[1])
for attempt in range(1, 11):
    guess = int(input())
    answer = "right" if guess == number else "higher" if guess < number else "lower"
    print(answer, flush=True)
    print(f"{guess} is {answer}", file=sys.stderr)
    if answer == "right":
        sys.exit(0)
sys.exit("too many guesses")
"#;

/// Halves the range until the keeper says "right".
const GUESSER: &str = r#"
low, high, answer = 1, 1000, None
while answer != "right":
    guess = (low + high) // 2
    print(guess, flush=True)
    answer = input()
    if answer == "higher": low = guess + 1
    if answer == "lower": high = guess - 1
"#;

#[tokio::main]
async fn main() -> cellblock::Result<()> {
    let number = std::env::args().nth(1).unwrap_or_else(|| "421".into());
    // A conversation needs two containers.
    let pool = Pool::builder(Container::builder()).size(2).build().await?;
    let game = pool.converse(python(KEEPER, &[&number]), python(GUESSER, &[])).await?;
    print!("{}", game.first.stderr_lossy());
    match (game.first.verdict(), game.second.verdict()) {
        (Verdict::Ok, Verdict::Ok) => println!("the guesser wins"),
        // A program that ends early ends the input of the other one, which then fails too.
        (keeper, guesser) => println!("the game is off: the keeper {keeper}, the guesser {guesser}"),
    }
    pool.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn python(program: &str, args: &[&str]) -> Command {
    let limits = Limits::new().cpu_time(Duration::from_secs(2)).wall_time(Duration::from_secs(10)).allow_weaker(true);
    let mut command = Command::new("python3");
    command.args(["-c", program]).args(args).limits(limits);
    command
}
