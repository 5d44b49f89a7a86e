//! A streaming evaluator: submissions in, verdicts out as they come, until Ctrl-C.
//!
//! ```text
//! cargo run --example evaluator FILE    # each line is a Python program
//! ```
//!
//! Submissions are read only as fast as containers are free, so the source may be endless. Ctrl-C
//! ends the stream of results, which kills the programs that still run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::pin::pin;
use std::time::Duration;

use cellblock::{Command, Container, Lease, Limits, Pool, pool::Job};
use futures::{StreamExt, stream};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/dev/stdin".into());
    let submissions = BufReader::new(File::open(path)?).lines().map_while(Result::ok);
    let limits = Limits::new().wall_time(Duration::from_secs(5)).memory(256 << 20).output(1 << 20).allow_weaker(true);

    let pool = Pool::builder(Container::builder()).build().await?;
    let jobs = submissions.enumerate().map(|(number, source)| {
        let mut command = Command::new("python3").args(["-c", &source]).limits(limits.clone()).clone();
        command.stdin("6 7\n");
        Job::new(number + 1, async move |lease: &Lease| lease.output(&command).await)
    });
    let mut canceled = false;
    let ctrl_c = async {
        tokio::signal::ctrl_c().await.ok();
        canceled = true;
    };
    let mut count = 0;
    {
        let mut results = pin!(pool.stream(stream::iter(jobs)).take_until(ctrl_c));
        while let Some((number, result)) = results.next().await {
            let output = result?;
            println!("{number}: {} {:?}", output.verdict(), output.stdout_lossy().trim_end());
            count += 1;
        }
    }
    println!("{count} judged{}", if canceled { ", then canceled" } else { "" });
    pool.shutdown(Duration::ZERO).await;
    Ok(())
}
