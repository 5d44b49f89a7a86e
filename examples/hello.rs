//! The one-minute program: a container, a program, its output.

use cellblock::{Command, Container};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    cellblock::init(); // in a container's init this never returns
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let container = Container::builder().build().await?;
        let output = container.output(Command::new("python3").args(["-c", "print(6 * 7)"])).await?;
        assert_eq!(output.stdout, b"42\n");
        println!("{}", String::from_utf8_lossy(&output.stdout).trim_end());
        container.destroy().await;
        Ok(())
    })
}
