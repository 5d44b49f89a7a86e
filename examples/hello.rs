//! The shortest program: a container, a command, its output.
//!
//! ```text
//! cargo run --example hello
//! ```

use cellblock::{Command, Container};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    cellblock::init(); // must come first: in a container's init this never returns
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let container = Container::builder().build().await?;
        let output = container.output(Command::new("python3").args(["-c", "print(6 * 7)"])).await?;
        assert!(output.report.status.success(), "{}", output.report);
        print!("{}", String::from_utf8_lossy(&output.stdout)); // 42
        container.destroy().await;
        Ok(())
    })
}
