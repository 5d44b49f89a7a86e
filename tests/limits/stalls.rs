//! Work that blocks is done on other threads: it holds up no other task of the runtime.

use std::io::Write;
use std::time::Instant;

use cellblock::container::OpenFile;

use super::*;

/// Completes a future. Also returns the longest time for which this thread's tasks stood still.
async fn longest_stall<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = std::pin::pin!(work);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, longest.max(last.elapsed())),
            () = tokio::time::sleep(millis(1)) => {}
        }
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
}

#[tokio::test]
async fn a_limit_that_waits_for_memory_holds_up_no_other_task() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return;
    }
    assert!(
        run(&container, &hog(if is_slow() { "miss 3000" } else { "miss 1000000" }, limits())).await.status.success()
    );
    let start = Instant::now();
    let command = hog("exit 0", limits().memory(16 * MIB));
    let (report, stall) = longest_stall(container.run(&command)).await;
    let took = start.elapsed();
    report.unwrap();
    if took < millis(100) {
        return skip("this kernel lowers the limit at once");
    }
    assert!(is_slow() || stall < took / 3, "{stall:?} of {took:?}");
}

/// A stall of this length shows that a thread waited for the program, and not for a CPU.
const LONG: Duration = Duration::from_millis(40);

#[tokio::test]
async fn a_file_that_a_program_keeps_busy_holds_up_no_other_task() {
    let container = container().await;
    groups(&container).await;
    let mut command = hog("occupy 60000000", limits());
    command.stdout(cellblock::Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    tokio::io::AsyncReadExt::read_exact(process.stdout.as_mut().unwrap(), &mut [0; 5]).await.unwrap();
    let here = async || {
        let mut opened = container.open([OpenFile::write("busy")]).await.unwrap();
        opened.remove(0).unwrap().write_all(b"x").unwrap();
    };
    let (mut stalls, mut controls) = (Vec::new(), Vec::new());
    let is_long = |stall: &&Duration| **stall >= LONG;
    let end = Instant::now() + 10 * SECOND;
    while controls.iter().filter(is_long).count() < 5 && Instant::now() < end {
        let (written, stall) = longest_stall(container.file("busy").mode(0o600).write("x")).await;
        written.unwrap();
        stalls.push(stall);
        controls.push(longest_stall(here()).await.1);
    }
    assert!(process.try_wait().unwrap().is_none(), "the program is at work");
    process.kill().await.unwrap();
    let counts = [&stalls, &controls].map(|of| of.iter().filter(is_long).count());
    if counts[1] < 5 {
        return skip("this machine is too fast for the control");
    }
    assert!(is_slow() || counts[0] <= 1, "{counts:?} stalls of {} writes: {stalls:?}", stalls.len());
}
