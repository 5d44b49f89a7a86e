//! The shortest program: a container, a command, its output.
//!
//! ```text
//! cargo run --example hello
//! ```

use cellblock::{Command, Container};

#[tokio::main]
async fn main() -> cellblock::Result<()> {
    let container = Container::builder().build().await?;
    let output = container.output(Command::new("python3").args(["-c", "print(6 * 7)"])).await?;
    assert!(output.status().success(), "{}", output.report);
    print!("{}", output.stdout_lossy()); // 42
    container.destroy().await;
    Ok(())
}
